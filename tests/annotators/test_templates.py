"""What a judge is told, and templates that cannot be used, found before anything is judged."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from trueup.annotators import template as template_module
from trueup.annotators.template import boundary_of, load_question, pose, template_source
from trueup.errors import InputError
from trueup.feedback.records import Message, Prompt
from trueup.settings.annotator_settings import TEMPLATES

SMALL = "Which is better?\n{{ prompt }}\n1:\n{{ first }}\n2:\n{{ second }}\nAnswer="


def saved(folder: Path, text: str) -> str:
    path = folder / "mine.jinja"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_that_come_with_trueup(name: str) -> None:
    """Preamble, what is to be judged, ending, as in the papers; the answer follows the last character."""
    text = pose(load_question(name), Prompt("What is it?"), "A plum.", "A pear.").text
    mark = boundary_of(("What is it?", "A plum.", "A pear."))
    places = [text.index(part) for part in ("You are an expert", mark, "What is it?", "A plum.", "A pear.")]
    assert places == sorted(places)
    assert re.search(r"(Response|Summary) 1:\n<\w+>\nA plum\.\n", text)
    assert re.search(r"(Response|Summary) 2:\n<\w+>\nA pear\.\n", text)
    assert re.search(r"\n\nPreferred (response|summary)=\Z", text)
    assert "{" not in text and "#}" not in text and "\n\n\n" not in text


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_instruction_stands_in_place_of_what_to_prefer(name: str) -> None:
    template = load_question(name)
    own = pose(template, Prompt("p"), "a", "b").text.splitlines()
    steered = pose(template, Prompt("p"), "a", "b", instruction="Prefer the short one.").text.splitlines()
    changed = [(old, new) for old, new in zip(own, steered, strict=True) if old != new]
    assert len(changed) == 1
    assert changed[0][0].startswith("Decide which of the two")
    assert changed[0][1] == "Prefer the short one."


def test_the_templates_differ_in_what_the_papers_say() -> None:
    """Helpfulness forbids to write the human's turns; harmlessness comes before help; a summary has four axes."""
    helpful, harmless, summary = map(template_source, TEMPLATES)
    assert 'turns that begin with "Human:" or "Assistant:"' in helpful
    assert "Human:" not in harmless and "harmlessness comes first" in harmless
    assert all(f"\n{axis}: " in summary for axis in ("Coherence", "Accuracy", "Coverage", "Overall quality"))


def test_templates_are_packaged_beside_their_reader() -> None:
    packaged = {entry.name for entry in files("trueup.annotators").joinpath("templates").iterdir()}
    assert {f"{name}.jinja" for name in TEMPLATES} <= packaged
    assert all(template_source(name).isascii() for name in TEMPLATES)


def test_a_copy_of_a_template_is_the_template(tmp_path: Path) -> None:
    copy = load_question(saved(tmp_path, template_source("summary")))
    assert pose(copy, Prompt("p"), "a", "b") == pose(load_question("summary"), Prompt("p"), "a", "b")


def test_a_conversation_is_shown_as_lines() -> None:
    talk = (
        Message("system", "Be brief."),
        Message("user", "Weather?"),
        Message("assistant", "", {"tool_calls": [{"name": "look", "at": "Bonn"}]}),
        Message("tool", "rain"),
        Message("developer", "In English."),
    )
    turns = (Message("assistant", "Rain."), Message("tool", "x"), Message("assistant", "Yes."))
    tools = ({"function": {"name": "look"}},)
    text = pose(
        load_question("helpfulness"), Prompt(talk, tools), turns, (Message("assistant", "Sun."),)
    ).text
    assert (
        '>\nTools: [{"function": {"name": "look"}}]\n\nSystem: Be brief.\n\nHuman: Weather?\n\n'
        'Assistant: calls [{"name": "look", "at": "Bonn"}]\n\nTool: rain\n\nSystem: In English.\n</' in text
    )
    assert ">\nAssistant: Rain.\n\nTool: x\n\nAssistant: Yes.\n</" in text
    assert ">\nSun.\n</" in text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ first }}\n{{ second }}\n{% if %}", r":3: Expected an expression"),
        ("{{ first }}\n{{ second }\nAnswer=", r":2: unexpected '}'"),
        (SMALL + "\n{{ promt }}=", r":8: a template knows no promt; did you mean 'prompt'\?; it may use prompt, first"),
        ("{% for k in range(9) %}{{ first }}{% endfor %}", r":1: a template knows no range"),
        ("{{ first }}\nAnswer=", r": the template never shows {{ second }}"),
        ("{{ second }}\nAnswer=", r": the template never shows {{ first }}"),
        ("{{ first }}\n{{ second }}\n", r": the template ends with a response.*such as: Preferred response="),
        (SMALL.replace("first", "first | upper"), r": the template does not show first whole"),
        (SMALL.replace("second", "second[:500]"), r": the template does not show second whole"),
        ("{{ second }}\n{{ first }}\nAnswer=", r": the template shows second before first"),
        (SMALL + "\n\n{{ labels.third }}=", r":9: 'tuple object' has no attribute 'third'"),
        (SMALL + "{{ ''.__class__.__mro__ }}=", r":7: access to attribute '__class__' of 'str' object is unsafe"),
        (SMALL + "{{ labels | random }}", r":7: No filter named 'random'"),
        (SMALL + "{% include 'other' %}", r":7: no loader for this environment"),
        (SMALL + "{{ 1 / 0 }}", r":7: division by zero"),
        ("{% if instruction %}{{ first }}{{ 1 + '' }}{% endif %}" + SMALL, r":1: unsupported operand"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_used_is_refused(source: str, message: str, tmp_path: Path) -> None:
    name = saved(tmp_path, source)
    with pytest.raises(InputError, match="^" + re.escape(name) + message) as caught:
        load_question(name)
    assert "\n" not in str(caught.value)


def test_a_template_that_does_not_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "SECONDS", 2.0)
    loops = "{% for a in first %}" * 6 + "{% endfor %}" * 6
    with pytest.raises(InputError, match=r"mine\.jinja: the template was stopped after 2 seconds"):
        load_question(saved(tmp_path, SMALL.replace("Answer", loops + "Answer")))


def test_what_is_cut_only_when_it_is_long_is_refused_when_it_is(tmp_path: Path) -> None:
    template = load_question(saved(tmp_path, SMALL.replace("{{ first }}", "{{ first[:5000] }}")))
    pose(template, Prompt("p"), "a" * 900, "b")
    with pytest.raises(InputError, match=r"mine\.jinja: the template does not show first whole"):
        pose(template, Prompt("p"), "a" * 9000, "b")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "helpfullness",
            "template helpfullness: no such file; did you mean 'helpfulness'?; give helpfulness, harm",
        ),
        (
            "none/x.jinja",
            "template none/x.jinja: no such file; give helpfulness, harmlessness, summary, or a file",
        ),
        (".", "template '.': the file cannot be read: Is a directory"),
        ("latin", "template 'latin': the file cannot be read: not text in UTF-8"),
        ("a\0b", "template 'a\\x00b': the file cannot be read"),
    ],
)
def test_a_template_that_is_not_there(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin").write_bytes(b"{{ first }} \xe9")
    with pytest.raises(InputError) as caught:
        load_question(name)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_source_of_a_template_that_is_not_there() -> None:
    with pytest.raises(
        InputError, match=r"no template 'summry'; did you mean 'summary'\?; there are helpfulness,"
    ):
        template_source("summry")
