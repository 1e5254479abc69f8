"""Work that was done survives whatever ends a process, and goes on only as it began: by which settings and files."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.gathering_work import stop_at_check, work_at
from support.refusals import refused

from trueup.config.layers import nest
from trueup.errors import InputError, Stopped
from trueup.feedback.records import Example, Prompt, Response
from trueup.gathering.resumable import of_annotating, of_sampling
from trueup.settings.annotator_settings import expanded
from trueup.settings.gathering_settings import AnnotateSettings, SampleSettings
from trueup.settings.validation import validate


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def beside(output: Path) -> Path:
    return output.with_name("out.jsonl.part")


def test_parts_are_there_again(output: Path) -> None:
    """As they will be read from the beginning, so that a run that was not interrupted goes on with the same values."""
    with work_at(output) as work:
        assert work.parts == {}
        work.keep("a 0", (1, "\u2028 two\nlines", None))
        work.keep("a 1", {"x": 0.1})
        kept = dict(work.parts)
    with work_at(output) as again:
        assert again.parts == kept == {"a 0": [1, "\u2028 two\nlines", None], "a 1": {"x": 0.1}}
        again.finish()
    assert list(output.parent.iterdir()) == []


def test_nothing_is_left_where_nothing_was_done(output: Path) -> None:
    with work_at(output):
        assert beside(output).exists()
    assert list(output.parent.iterdir()) == []


def begun(output: Path) -> bytes:
    with work_at(output) as work:
        work.keep("a 0", 1)
        work.keep("a 1", 2)
    return beside(output).read_bytes()


def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(output: Path) -> None:
    whole = begun(output)
    lines = whole.splitlines(keepends=True)
    for length in range(len(whole)):
        beside(output).write_bytes(whole[:length])
        number = sum(len(b"".join(lines[:count])) <= length for count in (2, 3))
        with work_at(output) as work:
            assert list(work.parts) == ["a 0", "a 1"][:number]
            work.keep("b", 3)
        with work_at(output) as again:
            assert list(again.parts) == [*["a 0", "a 1"][:number], "b"]
            again.finish()


def test_other_settings_are_named_and_not_told(output: Path) -> None:
    begun(output)
    other = {"seed": 2, "base_url": "http://user:secret@host", "model": "m"}
    with pytest.raises(InputError) as caught:
        work_at(output, other)
    assert str(caught.value) == (
        f"{beside(output)} was begun with other settings (seed, base_url). Give those again to go on with it, delete "
        "it to start over, or give another output"
    )
    beside(output).unlink()
    with work_at(output, other) as work:
        work.keep("a", 1)
    with work_at(output, {**other, "stop": None}) as again:  # left out is what it was
        assert again.parts == {"a": 1}
    assert b"secret" not in beside(output).read_bytes()


OTHERS = (
    b"words\n", b"{}\n", b'{"of": "trueup y", "settings": {}}\n', b'{"prompt": "a"}\n{}\n', b"[]\n", b"\n",
    b"x",
)  # fmt: skip


@pytest.mark.parametrize("content", OTHERS)
def test_a_file_of_other_work_is_left_alone(output: Path, content: bytes) -> None:
    beside(output).write_bytes(content)
    with refused(r"is not what trueup x keeps its work in\. Delete it, or give another one"):
        work_at(output)
    assert beside(output).read_bytes() == content
    assert [path.name for path in output.parent.iterdir()] == ["out.jsonl.part"]


def test_a_damaged_line_is_named(output: Path) -> None:
    lines = begun(output).splitlines(keepends=True)
    beside(output).write_bytes(lines[0] + b"x" + lines[1][1:] + lines[2])
    with refused(r"out\.jsonl\.part:2: what was done so far is damaged there\. Delete"):
        work_at(output)


def test_one_process_at_a_time(output: Path) -> None:
    with work_at(output) as work:
        with refused(r"out\.jsonl: another process is at work on it\. Wait for it, or"):
            work_at(output)
        work.keep("a", 1)
    with work_at(output) as again:
        assert again.parts == {"a": 1}


def test_a_place_that_cannot_be_written(output: Path) -> None:
    beside(output).mkdir()
    with refused(r"work done so far cannot be kept there: Is a directory\. Make room"):
        work_at(output)


def squares(output: Path, made: list[int]) -> list[list[int]]:
    """Seven squares, three at a time; `made` is told of each part that is computed."""

    def make(loaded: None, name: str, items: Sequence[int]) -> list[int]:
        made.append(len(items))
        return [item * item for item in items]

    with work_at(output) as work:
        return work.in_parts("square", "squaring", range(7), 3, nullcontext, make)


def test_parts_that_are_there_are_not_made_again(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at_check(3, patch)
        squares(output, made)
    assert made == [3, 3]
    assert squares(output, made) == [[0, 1, 4], [9, 16, 25], [36]]
    assert made == [3, 3, 1]

    def never() -> Any:
        raise AssertionError

    with work_at(output) as work:
        assert len(work.in_parts("square", "squaring", range(7), 3, never, never)) == 3  # nothing is loaded


class Model:
    """Stands for what takes memory."""


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_loaded_is_let_go_of_at_once(output: Path, fails: bool) -> None:
    """Before its context is left, which frees its memory; also after an error."""
    held: list[bool] = []

    @contextmanager
    def load() -> Iterator[Model]:
        model = Model()
        seen = weakref.ref(model)
        try:
            yield model
        finally:
            del model
            held.append(seen() is not None)

    def make(loaded: Model, name: str, items: Sequence[int]) -> int:
        if fails:
            del loaded
            raise InputError("no")
        return 1

    with work_at(output) as work, pytest.raises(InputError) if fails else nullcontext():
        work.in_parts("square", "squaring", range(7), 3, load, make)
    assert held == [False]


PROMPTS = [Prompt("p"), Prompt("q")]
ALSO = [Example(Prompt("p"), (Response("r", score=1.0),))]


def sampling(**given: Any) -> dict[str, object]:
    layer = {"model": "M", "data": "d.jsonl", "output": "o.jsonl"} | {
        name.replace("__", "."): value for name, value in given.items()
    }
    return of_sampling(validate(SampleSettings, nest(expanded(layer)), where="x"), PROMPTS, ALSO)


def annotating(**given: Any) -> dict[str, object]:
    layer = {"data": "d.jsonl", "output": "o.jsonl", "annotator": "openai", "annotator.model": "J"}
    layer |= {"annotator.base_url": "http://localhost:1/v1"}
    layer |= {name.replace("__", "."): value for name, value in given.items()}
    return of_annotating(validate(AnnotateSettings, nest(expanded(layer)), where="x"), ALSO)


def differing(one: dict[str, object], other: dict[str, object]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def test_what_decides_how_it_is_sampled() -> None:
    each = {"seed": 1, "keep_responses": False, "sampler__temperature": 0.5, "sampler__stop": ["x"]}
    for name, value in {**each, "sampler__responses": 3, "max_prompt_length": 3, "eos_token": "x"}.items():
        assert differing(sampling(), sampling(**{name: value})) == {name.removeprefix("sampler__")}
    assert differing(sampling(), sampling(model=["M", "N"])) == {"model", "files of the model"}
    free = {"output": "other.jsonl", "overwrite": True, "sampler__concurrency": 3, "sampler__timeout": 5}
    assert sampling(**free, sampler__key_variable="K") == sampling()


def test_annotators_beside_sampling() -> None:
    plain = sampling(annotator="world:gold")
    assert differing(plain, sampling(annotator="world:gold", best=True)) == set()
    assert differing(plain, sampling(annotator="world:gold", annotator__noise=0.5)) == {"annotator.noise"}
    assert "annotator.reward" in differing(plain, sampling(annotator="world:proxy"))
    assert "annotator.kind" in differing(plain, sampling())


def test_what_decides_how_it_is_annotated() -> None:
    each = {"instruction": "short", "read": "answer", "base_url": "http://localhost:2/v1", "model": "K"}
    for name, value in each.items():
        assert differing(annotating(), annotating(**{f"annotator__{name}": value})) == {f"annotator.{name}"}
    rewritten = {"rewrite", "rewrite_tokens", "rewrite_temperature", "rewrite_template"}
    assert differing(annotating(), annotating(rewrite=True)) == rewritten
    free = {
        "concurrency": 3, "timeout": 5, "deadline": 5, "asks": 1, "key_variable": "K", "max_requests": 9,
        "max_tokens": 9, "cache": False, "max_unreadable": 0.5,
    }  # fmt: skip
    assert annotating(**{f"annotator__{name}": value for name, value in free.items()}) == annotating()


def test_one_address_is_what_earlier_versions_kept() -> None:
    """So that work they began is gone on with."""
    found = annotating(annotator="openai", annotator__model="J", annotator__base_url="http://a/v1")
    assert (found["annotator.base_url"], found["annotator.form"]) == ("http://a/v1", None)
    server = {"sampler__engine": "server", "sampler__base_url": ["http://a/v1"]}
    assert sampling(**server)["base_url"] == "http://a/v1"
    server["sampler__base_url"] = ["http://a/v1", "http://b/v1"]
    assert sampling(**server)["base_url"] == ["http://a/v1", "http://b/v1"]


def test_what_is_asked_and_what_is_known(tmp_path: Path) -> None:
    settings = SampleSettings(model=("M",), data=("d",), output="o.jsonl")
    whole = of_sampling(settings, PROMPTS, ALSO)
    assert differing(whole, of_sampling(settings, PROMPTS[:1], ALSO)) == {"data"}
    assert differing(whole, of_sampling(settings, PROMPTS, [])) == {"data with feedback"}
    assert whole["data"] == of_sampling(settings, list(PROMPTS), ALSO)["data"]


def test_files_that_are_named(tmp_path: Path) -> None:
    model, template, rewards = tmp_path / "M", tmp_path / "t.jinja", tmp_path / "rewards.py"
    model.mkdir()
    for file in (model / "config.json", template, rewards):
        file.write_text("1")

    def found() -> dict[str, object]:
        return sampling(model=str(model), chat_template=str(template), annotator=f"{rewards}:f")

    before = found()
    assert found() == before
    for file, name in (
        (model / "config.json", "files of the model"),
        (template, "chat_template"),
        (rewards, "annotator's function"),
    ):
        file.write_text("22")
        assert differing(before, found()) == {name}
        before = found()
    judge = tmp_path / "J"
    judge.mkdir()
    (judge / "config.json").write_text("1")
    local = {"annotator": f"local:{judge}", "annotator__template": str(template)}
    plain = sampling(**local)
    (judge / "config.json").write_text("22")
    template.write_text("333")
    assert differing(plain, sampling(**local)) == {"annotator's model", "annotator's template"}
