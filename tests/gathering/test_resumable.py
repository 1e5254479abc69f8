"""Work that was done survives whatever ends a process, and goes on only as it began."""

import json
import multiprocessing
import os
import signal
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.gathering_work import stop_at_check

from trueup.errors import InputError, Stopped
from trueup.gathering.resumable import Work

SETTINGS = {"seed": 1, "model": "m"}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def beside(output: Path) -> Path:
    return output.with_name("out.jsonl.part")


def test_parts_are_there_again(output: Path) -> None:
    work = Work(output, "trueup x", SETTINGS)
    assert work.parts == {}
    work.keep("a 0", [1, "\u2028 two\nlines", None])
    work.keep("a 1", {"x": 0.1})
    work.close()
    again = Work(output, "trueup x", SETTINGS)
    assert again.parts == {"a 0": [1, "\u2028 two\nlines", None], "a 1": {"x": 0.1}}
    again.finish()
    again.close()
    assert list(output.parent.iterdir()) == []


def test_what_is_kept_is_as_it_will_be_read(output: Path) -> None:
    """So that a run that was not interrupted goes on with the same values as one that was."""
    work = Work(output, "trueup x", SETTINGS)
    work.keep("a", (1, (2.0,)))
    assert work.parts["a"] == [1, [2.0]]
    work.close()


def test_nothing_is_left_where_nothing_was_done(output: Path) -> None:
    work = Work(output, "trueup x", SETTINGS)
    assert beside(output).exists()
    work.close()
    assert list(output.parent.iterdir()) == []


def begun(output: Path) -> bytes:
    work = Work(output, "trueup x", SETTINGS)
    work.keep("a 0", 1)
    work.keep("a 1", 2)
    work.close()
    return beside(output).read_bytes()


def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(output: Path) -> None:
    whole = begun(output)
    lines = whole.splitlines(keepends=True)
    for length in range(len(whole)):
        beside(output).write_bytes(whole[:length])
        work = Work(output, "trueup x", SETTINGS)
        number = sum(len(b"".join(lines[:count])) <= length for count in (2, 3))
        assert list(work.parts) == ["a 0", "a 1"][:number]
        work.keep("b", 3)
        work.close()
        again = Work(output, "trueup x", SETTINGS)
        assert list(again.parts) == [*["a 0", "a 1"][:number], "b"]
        again.finish()
        again.close()


def test_other_settings_are_named_and_not_told(output: Path) -> None:
    begun(output)
    other = {"seed": 2, "base_url": "http://user:secret@host", "model": "m"}
    with pytest.raises(InputError) as caught:
        Work(output, "trueup x", other)
    assert str(caught.value) == (
        f"{beside(output)} was begun with other settings (seed, base_url). Give those again to go on with it, delete "
        "it to begin anew, or give another output"
    )
    beside(output).unlink()
    Work(output, "trueup x", other).close()
    work = Work(output, "trueup x", other)
    work.keep("a", 1)
    work.close()
    assert b"secret" not in beside(output).read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"words\n",
        b"{}\n",
        b'{"of": "trueup y", "settings": {}}\n',
        b'{"prompt": "a"}\n{}\n',
        b"[]\n",
        b"\n",
        b"no line",
    ],
)
def test_a_file_of_somebody_else_is_left_alone(output: Path, content: bytes) -> None:
    beside(output).write_bytes(content)
    with pytest.raises(
        InputError, match=r"is not what trueup x keeps its work in\. Delete it, or give another output"
    ):
        Work(output, "trueup x", SETTINGS)
    assert beside(output).read_bytes() == content
    assert [path.name for path in output.parent.iterdir()] == ["out.jsonl.part"]


def test_a_damaged_line_is_named(output: Path) -> None:
    lines = begun(output).splitlines(keepends=True)
    beside(output).write_bytes(lines[0] + b"x" + lines[1][1:] + lines[2])
    with pytest.raises(
        InputError, match=r"out\.jsonl\.part:2: what was done so far is damaged there\. Delete that"
    ):
        Work(output, "trueup x", SETTINGS)


def test_one_process_at_a_time(output: Path) -> None:
    work = Work(output, "trueup x", SETTINGS)
    with pytest.raises(
        InputError, match=r"out\.jsonl: another process is at work on it\. Wait for it, or give"
    ):
        Work(output, "trueup x", SETTINGS)
    work.keep("a", 1)
    work.close()
    Work(output, "trueup x", SETTINGS).close()


def test_a_place_that_cannot_be_written(output: Path) -> None:
    beside(output).mkdir()
    with pytest.raises(
        InputError, match=r"the work done so far cannot be kept there: Is a directory\. Make room"
    ):
        Work(output, "trueup x", SETTINGS)


def squares(output: Path, made: list[int]) -> list[list[int]]:
    """Seven squares, three at a time; `made` is told of each part that is computed."""
    work = Work(output, "trueup x", SETTINGS)

    def make(loaded: None, name: str, items: Sequence[int]) -> list[int]:
        made.append(len(items))
        return [item * item for item in items]

    try:
        return work.in_parts("square", "squaring", range(7), 3, nullcontext, make)
    finally:
        work.close()


def test_parts_that_are_there_are_not_made_again(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at_check(3, patch)
        squares(output, made)
    assert made == [3, 3]
    assert squares(output, made) == [[0, 1, 4], [9, 16, 25], [36]]
    assert made == [3, 3, 1]
    assert squares(output, made) == [[0, 1, 4], [9, 16, 25], [36]]
    assert made == [3, 3, 1]


def test_nothing_is_loaded_where_nothing_is_left(output: Path) -> None:
    squares(output, [])
    work = Work(output, "trueup x", SETTINGS)

    def never() -> Any:
        raise AssertionError

    assert len(work.in_parts("square", "squaring", range(7), 3, never, never)) == 3
    work.close()


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

    work = Work(output, "trueup x", SETTINGS)
    with pytest.raises(InputError) if fails else nullcontext():
        work.in_parts("square", "squaring", range(7), 3, load, make)
    work.close()
    assert held == [False]


def test_a_process_that_is_killed_leaves_whole_parts(output: Path) -> None:
    """By SIGKILL, in the middle of the third part."""

    def body() -> None:
        work = Work(output, "trueup x", SETTINGS)

        def make(loaded: None, name: str, items: Sequence[int]) -> list[int]:
            if items[0] == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return [item * item for item in items]

        work.in_parts("square", "s", range(7), 3, nullcontext, make)

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    kept = [json.loads(line) for line in beside(output).read_text().splitlines()]
    assert [line.get("part") for line in kept] == [None, "square 0", "square 1"]
    made: list[int] = []
    assert squares(output, made) == [[0, 1, 4], [9, 16, 25], [36]]
    assert made == [1]
