"""Work that was done survives whatever ends a process, and goes on only as it began."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.gathering_work import unseen

from trueup.errors import InputError, Stopped
from trueup.gathering.partial import Partial
from trueup.gathering.work import Work

SETTINGS = {"seed": 1, "model": "m"}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def beside(output: Path) -> Path:
    return output.with_name("out.jsonl.part")


def test_parts_are_there_again(output: Path) -> None:
    partial = Partial(output, "trueup x", SETTINGS)
    assert partial.parts == {}
    partial.keep("a 0", [1, "\u2028 two\nlines", None])
    partial.keep("a 1", {"x": 0.1})
    partial.close()
    again = Partial(output, "trueup x", SETTINGS)
    assert again.parts == {"a 0": [1, "\u2028 two\nlines", None], "a 1": {"x": 0.1}}
    again.finish()
    again.close()
    assert list(output.parent.iterdir()) == []


def test_what_is_kept_is_as_it_will_be_read(output: Path) -> None:
    """So that a run that was not interrupted goes on with the same values as one that was."""
    partial = Partial(output, "trueup x", SETTINGS)
    partial.keep("a", (1, (2.0,)))
    assert partial.parts["a"] == [1, [2.0]]
    partial.close()


def test_nothing_is_left_where_nothing_was_done(output: Path) -> None:
    partial = Partial(output, "trueup x", SETTINGS)
    assert beside(output).exists()
    partial.close()
    assert list(output.parent.iterdir()) == []


def begun(output: Path) -> bytes:
    partial = Partial(output, "trueup x", SETTINGS)
    partial.keep("a 0", 1)
    partial.keep("a 1", 2)
    partial.close()
    return beside(output).read_bytes()


def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(output: Path) -> None:
    whole = begun(output)
    lines = whole.splitlines(keepends=True)
    for length in range(len(whole)):
        beside(output).write_bytes(whole[:length])
        partial = Partial(output, "trueup x", SETTINGS)
        number = sum(len(b"".join(lines[:count])) <= length for count in (2, 3))
        assert list(partial.parts) == ["a 0", "a 1"][:number]
        partial.keep("b", 3)
        partial.close()
        again = Partial(output, "trueup x", SETTINGS)
        assert list(again.parts) == [*["a 0", "a 1"][:number], "b"]
        again.finish()
        again.close()


def test_other_settings_are_named_and_not_told(output: Path) -> None:
    begun(output)
    other = {"seed": 2, "base_url": "http://user:secret@host", "model": "m"}
    with pytest.raises(InputError) as caught:
        Partial(output, "trueup x", other)
    assert str(caught.value) == (
        f"{beside(output)} was begun with other settings (seed, base_url). Give those again to go on with it, delete "
        "it to begin anew, or give another output"
    )
    beside(output).unlink()
    Partial(output, "trueup x", other).close()
    partial = Partial(output, "trueup x", other)
    partial.keep("a", 1)
    partial.close()
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
        Partial(output, "trueup x", SETTINGS)
    assert beside(output).read_bytes() == content
    assert [path.name for path in output.parent.iterdir()] == ["out.jsonl.part"]


def test_a_damaged_line_is_named(output: Path) -> None:
    lines = begun(output).splitlines(keepends=True)
    beside(output).write_bytes(lines[0] + b"x" + lines[1][1:] + lines[2])
    with pytest.raises(
        InputError, match=r"out\.jsonl\.part:2: what was done so far is damaged there\. Delete that"
    ):
        Partial(output, "trueup x", SETTINGS)


def test_one_process_at_a_time(output: Path) -> None:
    partial = Partial(output, "trueup x", SETTINGS)
    with pytest.raises(
        InputError, match=r"out\.jsonl: another process is at work on it\. Wait for it, or give"
    ):
        Partial(output, "trueup x", SETTINGS)
    partial.keep("a", 1)
    partial.close()
    Partial(output, "trueup x", SETTINGS).close()


def test_a_place_that_cannot_be_written(output: Path) -> None:
    beside(output).mkdir()
    with pytest.raises(
        InputError, match=r"the work done so far cannot be kept there: Is a directory\. Make room"
    ):
        Partial(output, "trueup x", SETTINGS)


def squares(output: Path, made: list[int], poll: Callable[[], None] = lambda: None) -> list[list[int]]:
    """Seven squares, three at a time; `made` is told of each piece that is computed."""
    partial = Partial(output, "trueup x", SETTINGS)

    def make(name: str, items: Sequence[int]) -> list[int]:
        made.append(len(items))
        return [item * item for item in items]

    try:
        work = Work(partial, unseen, poll)
        return list(work.pieces("square", "squaring", range(7), 3, make, nullcontext))
    finally:
        partial.close()


def test_pieces_that_are_there_are_not_made_again(output: Path) -> None:
    polls = 0

    def stop() -> None:
        nonlocal polls
        polls += 1
        if polls == 3:
            raise Stopped("SIGTERM")

    made: list[int] = []
    with pytest.raises(Stopped):
        squares(output, made, stop)
    assert made == [3, 3]
    assert squares(output, made) == [[0, 1, 4], [9, 16, 25], [36]]
    assert made == [3, 3, 1]
    assert squares(output, made) == [[0, 1, 4], [9, 16, 25], [36]]
    assert made == [3, 3, 1]


def test_nothing_is_prepared_where_nothing_is_left(output: Path) -> None:
    squares(output, [])
    partial = Partial(output, "trueup x", SETTINGS)

    def never() -> Any:
        raise AssertionError

    work = Work(partial, unseen, lambda: None)
    assert len(list(work.pieces("square", "squaring", range(7), 3, never, never))) == 3
    partial.close()


def test_a_process_that_is_killed_leaves_whole_pieces(output: Path) -> None:
    """By SIGKILL, in the middle of the third piece."""

    def body() -> None:
        partial = Partial(output, "trueup x", SETTINGS)

        def make(name: str, items: Sequence[int]) -> list[int]:
            if items[0] == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return [item * item for item in items]

        list(Work(partial, unseen, lambda: None).pieces("square", "s", range(7), 3, make, nullcontext))

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    kept = [json.loads(line) for line in beside(output).read_text().splitlines()]
    assert [line.get("part") for line in kept] == [None, "square 0", "square 1"]
    made: list[int] = []
    assert squares(output, made) == [[0, 1, 4], [9, 16, 25], [36]]
    assert made == [1]
