"""What comes with a model and never ends is refused before the model is loaded, in one line that says what to do."""

import json
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model, toy_network
from transformers.utils import chat_template_utils

from trueup.batch.chat import render
from trueup.errors import InputError
from trueup.feedback.records import Message
from trueup.models import foreign_code, load
from trueup.models.foreign_code import CONVERSATION, check_chat_template, check_patterns
from trueup.models.prepare import AdapterSettings, load_policy

FOR_EVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
CATASTROPHIC = r"(([a-z0-9._]+)+)+!"
CPU = torch.device("cpu")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_code, "SECONDS", 3.0)
    check_chat_template.cache_clear()


@pytest.mark.slow
def test_a_template_that_loops_for_ever_is_refused_before_the_model_is_loaded(
    short: None, tmp_path: Path, tiny_model: Path
) -> None:
    template = tmp_path / "loop.jinja"
    template.write_text(FOR_EVER + CHATML)
    with mock.patch.object(load, "_network") as loaded, pytest.raises(InputError) as caught:
        load.load(str(tiny_model), device=CPU, chat_template=str(template))
    assert str(caught.value) == (
        "the chat template was stopped after 3 seconds, still at work on a conversation of user, assistant, user: it "
        "seems to loop for ever. Mend it, or give another template with --chat-template FILE"
    )
    assert not loaded.called


@pytest.mark.slow
def test_a_pattern_that_never_ends_is_refused_before_the_model_is_loaded(
    short: None, tmp_path: Path, tiny_model: Path
) -> None:
    """Whether it came with an adapter or is the user's own."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_model), "target_modules": CATASTROPHIC}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    adapter = AdapterSettings(2, 4.0, 0.0, CATASTROPHIC)
    with mock.patch.object(load, "_network") as loaded:
        for path, fresh, where in (
            (folder, None, str(folder / "adapter_config.json")),
            (tiny_model, adapter, f"lora.targets {CATASTROPHIC!r}"),
        ):
            with pytest.raises(InputError) as caught:
                load_policy(str(path), device=CPU, precision="fp32", adapter=fresh)
            assert str(caught.value) == (
                f"{where}: a regular expression was stopped after 3 seconds, still at work on the modules of "
                f"{tiny_model}: it is one of {CATASTROPHIC}. Write it without nested repetitions, or list the "
                "modules by name"
            )
    assert not loaded.called


def test_what_ends_is_let_pass_whatever_it_does(tmp_path: Path, tiny_model: Path) -> None:
    recursive = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
    for template in (CHATML, recursive, "{% for m in messages %}", "{{ raise_exception('no tools') }}"):
        check_chat_template(template)
    for content in ('{"target_modules": "(unclosed", "rank_pattern": {"[": 2}}', "no JSON", "[]"):
        (tmp_path / "adapter_config.json").write_text(content)
        check_patterns(tmp_path / "adapter_config.json", str(tiny_model))
    check_patterns(tmp_path / "nowhere.json", str(tiny_model))


def test_a_template_is_tried_as_the_library_renders_it() -> None:
    """With all that a template may use; the child's rendering is compared with the library's own."""
    template = (
        "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{% generation %}{{ m.role }}: "
        "{{ m.content | tojson }}{% endgeneration %}{% endfor %}{{ strftime_now('%Y') | length }}"
        "{% if tools %}{{ tools[0].function.name }}{% endif %}{{ bos_token }}"
    )
    messages = [dict(turn) for turn in CONVERSATION]
    compiled = chat_template_utils._compile_jinja_template(template)
    expected = compiled.render(messages=messages, tools=None, bos_token="<s>")
    seen = []
    original = foreign_code.json.dumps
    with mock.patch.object(
        foreign_code.json, "dumps", side_effect=lambda *a, **k: seen.append(a) or original(*a, **k)
    ):
        foreign_code.render(template)
    assert len(seen) == 8  # two turns, four times: all of it was reached
    assert "Paris" in expected


def test_the_process_that_tries_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys, trueup.models.foreign_code as one; one.render('a'); "
        "print(*{'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_one_template_is_tried_once() -> None:
    check_chat_template.cache_clear()
    with mock.patch.object(foreign_code, "try_in_child") as tried:
        for _ in range(3):
            check_chat_template(CHATML)
    assert tried.call_count == 1


def test_the_names_that_patterns_are_tried_on_are_those_of_the_modules(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m")
    names = foreign_code._modules(str(folder))
    wanted = {
        name for name, module in toy_network().named_modules()
        if name and next(module.parameters(), None) is not None
    }  # fmt: skip
    assert names == wanted - {"lm_head"} or names == wanted


def test_a_template_that_fails_while_rendering_is_the_users_to_mend() -> None:
    recursive = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
    for template in (recursive, "{% for m in messages %}"):
        with pytest.raises(
            InputError, match=r"refuses a conversation of user, assistant: .*--chat-template FILE"
        ):
            render(
                char_tokenizer(chat_template=template), [Message("user", "a")], [Message("assistant", "b")]
            )
