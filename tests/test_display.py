"""What the user sees: a bar with the time left on a terminal, plain lines elsewhere."""

import io
import json
import logging
import re
from pathlib import Path

import pytest
from rich.console import Console
from support.small_runs import command

from trueup import display
from trueup.display import Terminal, duration
from trueup.errors import InputError, Stopped


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(display, "time", clock)
    return clock


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is shown where there is no terminal."""
    return shown_in(monkeypatch, terminal=False)


def shown_in(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    """Show progress in a text."""
    made, text = Terminal(), io.StringIO()
    made.console = Console(file=text, force_terminal=terminal, width=140, highlight=False, soft_wrap=True)
    monkeypatch.setattr(display, "_terminal", made)
    return text


@pytest.mark.parametrize(
    "seconds, expected",
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3600, "1h00m"),
        (7620, "2h07m"),
        (90000, "25h00m"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_plain_lines_tell_the_time_left(clock: Clock, text: io.StringIO) -> None:
    """3 s a step: a line at the first step that is 5 s after the last line, and one at the end."""
    with display.bar("dpo", 10) as advance:
        for step in range(1, 11):
            clock.now += 3
            advance(step, {"loss": 0.5, "kl": 1.25})
    assert text.getvalue().splitlines() == [
        f"dpo {step}/10  {left}  loss 0.5  kl 1.25"
        for step, left in (
            (2, "24s left"),
            (4, "18s left"),
            (6, "12s left"),
            (8, "6s left"),
            (10, "took 30s"),
        )
    ]


def test_the_time_left_of_a_resumed_run_counts_its_own_steps_only(clock: Clock, text: io.StringIO) -> None:
    with display.bar("dpo", 100) as advance:
        for step in (91, 92):
            clock.now += 10
            advance(step, {})
    assert text.getvalue().splitlines() == ["dpo 91/100  1m30s left", "dpo 92/100  1m20s left"]


def test_a_total_that_is_not_known(clock: Clock, text: io.StringIO) -> None:
    with display.bar("reading", None) as advance:
        clock.now += 6
        advance(1, {})
        clock.now += 6
        advance(2, {"loss": 1.0})
    assert text.getvalue().splitlines() == ["reading 1", "reading 2  loss 1"]


def screen(text: io.StringIO) -> list[str]:
    """The lines that were on a terminal, the last one last."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text.getvalue()).replace("\r", "\n").split("\n")


def test_a_terminal_gets_a_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    text = shown_in(monkeypatch, terminal=True)
    with display.bar("dpo", 4) as advance:
        for step in range(1, 5):
            clock.now += 60
            advance(step, {"loss": 0.5 / step, "margin": 0.25})
    last = "".join(screen(text)[-9:])
    assert re.search(r"dpo \u2501{40} 4/4  took 4m00s  loss 0\.125  margin 0\.25", last), last


@pytest.mark.parametrize(
    "label, total, values, expected",
    [
        ("dpo", 100, {"loss": 0.6931, "acc": 0.5}, ("50/100  50s left  loss 0.693  acc 0.5", 37)),
        (
            "pointwise-dpo",
            12345,
            {"loss": 0.6931, "chosen": -1.234, "rejected": -2.345, "kl": -0.00012345},
            ("50/12345 3h24m loss 0.693 chosen -1.23 rejected -2.35 kl -1.2e-4", 0),
        ),
        ("tr-ipo", 100, {"loss": 250000, "acc": 0, "margin": -270000, "kl": 1e-7}, ("", 12)),
    ],
)
def test_a_line_of_80_columns_holds_all_or_leaves_the_last_figure_out(
    clock: Clock, label: str, total: int, values: dict[str, float], expected: tuple[str, int]
) -> None:
    advance = display.Advance(label, total)
    clock.now += 50
    for step in (1, 50):
        advance(step, values)
    before, after, bar = advance.parts(79)
    assert (before, bar) == (label, expected[1])
    assert len(before) + len(after) + bar + 2 <= 79
    assert after == (expected[0] or "50/100  50s left  loss 2.5e5  acc 0  margin -2.7e5  kl 1e-7")


@pytest.mark.parametrize(
    "value, expected",
    [(0, "0"), (1, "1"), (-0.69314, "-0.693"), (12345, "1.23e4"), (-270000, "-2.7e5"), (0.00012, "1.2e-4"),
     (999.7, "1e3"), (128, "128"), (float("nan"), "nan"), (float("inf"), "inf")],
)  # fmt: skip
def test_figures_are_short(value: float, expected: str) -> None:
    assert display.figure(value) == expected


def test_items_pass_through_while_they_are_counted(clock: Clock, text: io.StringIO) -> None:
    passed = []
    for item in display.track("abc", "tokenizing"):
        clock.now += 6
        passed.append(item)
    assert passed == ["a", "b", "c"]
    assert text.getvalue().splitlines() == [
        "tokenizing 1/3  12s left", "tokenizing 2/3  6s left", "tokenizing 3/3  took 18s",
    ]  # fmt: skip


def test_notices_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are no markup, colons no emoji, long lines are not broken, and nothing goes to the standard output."""
    long = "reward:x: [bold]rows[/bold] [1] 100 % " + "x" * 300
    with display.shown():
        logging.getLogger("trueup.feedback").info(long)
        logging.getLogger("trueup.training").warning("odd")
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [long, "warning: odd"]
    assert captured.out == ""


def test_quiet_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with display.shown(quiet=True):
        display.logger.info("a notice")
        display.logger.warning("a warning")
        with display.bar("dpo", 1) as advance:
            advance(1, {"loss": 0.5})
    assert capsys.readouterr() == ("", "warning: a warning\n")


def test_an_inner_display_takes_the_place_of_the_outer(capsys: pytest.CaptureFixture[str]) -> None:
    with display.shown():
        with display.shown(quiet=True):
            display.logger.info("unseen")
        display.logger.info("seen once")
    assert capsys.readouterr().err == "seen once\n"
    assert display.logger.handlers == []


def test_messages_of_the_data_are_collected_and_all_are_kept_in_a_file(tmp_path: Path) -> None:
    with display.collected() as lines, display.logged_to(tmp_path / "run.log"):
        display.data_logger.info("a.jsonl: 3 examples")
        logging.getLogger("trueup.training").warning("late")
    display.data_logger.warning("of another run")
    assert lines == ["a.jsonl: 3 examples"]
    kept = (tmp_path / "run.log").read_text().splitlines()
    assert [re.sub(r"^[-0-9]{10} [0-9:,]{12} ", "", line) for line in kept] == [
        "INFO a.jsonl: 3 examples",
        "WARNING late",
    ]


def test_the_error_that_ended_a_run_is_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    for error in (
        InputError("row 3 of\na.jsonl is no pair"),
        Stopped("SIGTERM"),
        ZeroDivisionError("by zero"),
    ):
        with pytest.raises(type(error)), display.logged_to(file):
            raise error
    assert [line.partition(" ERROR ")[2] for line in file.read_text().splitlines()] == [
        "row 3 of a.jsonl is no pair", "ZeroDivisionError('by zero')",
    ]  # fmt: skip


def test_a_file_that_cannot_be_opened_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with display.logged_to(tmp_path / "absent" / "run.log"):
        display.logger.warning("goes on")
    assert caplog.messages == [
        f"{tmp_path / 'absent' / 'run.log'}: what is said is not written there: No such file or directory", "goes on",
    ]  # fmt: skip


def test_a_full_disk_costs_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    with display.logged_to(Path("/dev/full")):
        display.logger.warning("lost")
    assert "Traceback" not in capsys.readouterr().err


def test_nothing_that_is_said_steers_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither names of files, nor what is in them, nor errors; in the log no more than on the screen."""
    file = tmp_path / "n\x1b[31m\u202e.jsonl"
    file.write_text(json.dumps({"prompt": "a\x1b[2J", "chosen": "c\x07", "rejected": "d\x9b1m"}) + "\n")
    assert command("inspect", file) == 0
    assert command("inspect", f"{file}\x1b]0;x\x07") == 2
    with display.shown(), display.logged_to(tmp_path / "log"):
        display.logger.warning("%s", "e\x1b[0m")
    said = capsys.readouterr()
    for text in (said.out, said.err, (tmp_path / "log").read_text()):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert r"n\x1b[31m\u202e.jsonl: TRL pairs" in said.out and r"e\x1b[0m" in said.err
