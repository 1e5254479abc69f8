"""What the user sees on standard error: what is logged under `trueup`, and how far the work has come.
A module says something with `trueup.words.logger`, and shows progress with `track` or `bar`. Both reach the terminal
inside `shown`, which the command opens; elsewhere, progress is silent and messages are any library's."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.table import Table

from trueup.errors import Stopped, TrueupError
from trueup.parallel.processes import owns
from trueup.words import logger, one_line, reason, spelled

T = TypeVar("T")

data_logger = logging.getLogger("trueup.data")
"""For what the model card tells of the data: what each source was taken for, and what became of it."""

PLAIN_SECONDS = 5.0  # least time between two plain lines of progress
BAR, LEAST_BAR = 40, 4  # most and fewest characters of a bar; where there is less room there is none


class Terminal(logging.Handler):
    """Prints messages on standard error; `quiet` warnings only, and no progress."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__()
        self.console = Console(stderr=True, quiet=quiet, highlight=False, emoji=False, soft_wrap=True)
        loud = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
        self.warnings = loud if quiet else self.console

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if record.levelno >= logging.WARNING:
            self.warnings.print(f"warning: {line}", markup=False, style="yellow")
        else:
            self.console.print(line, markup=False)


_terminal: Terminal | None = None


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[None]:
    """Show what the block says and how far it is on standard error; inside another one, in its place."""
    global _terminal
    if not owns():
        yield
        return
    outer, _terminal = _terminal, Terminal(quiet=quiet)
    if outer is not None:
        logger.removeHandler(outer)
    try:
        with _handled_by(_terminal):
            yield
    finally:
        _terminal = outer
        if outer is not None:
            logger.addHandler(outer)


@contextmanager
def collected(source: logging.Logger = data_logger) -> Iterator[list[str]]:
    """The text of messages while the block runs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    with _handled_by(handler, source):
        yield lines


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append what the block says to a file, with time and level, and the error that ended it; a stop is no error."""
    try:
        handler = logging.FileHandler(path if owns() else os.devnull, encoding="utf-8")
    except OSError as error:
        logger.warning(f"{path}: what is said is not written there: {reason(error)}")
        handler = logging.FileHandler(os.devnull)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk costs the line alone
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    try:
        with _handled_by(handler):
            yield
    except Stopped:
        raise
    except BaseException as error:
        ended = one_line(error) if isinstance(error, TrueupError) else repr(error)
        handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, ended, (), None))
        raise
    finally:
        with suppress(OSError):
            handler.close()


@contextmanager
def _handled_by(handler: logging.Handler, source: logging.Logger = logger) -> Iterator[None]:
    level = logger.level
    handler.addFilter(_spell_out)
    logger.setLevel(logging.INFO)
    source.addHandler(handler)
    try:
        yield
    finally:
        source.removeHandler(handler)
        logger.setLevel(level)


def _spell_out(record: logging.LogRecord) -> bool:
    """Nothing that data, models or servers say steers the terminal, nor that of whoever reads the log."""
    record.msg, record.args = spelled(record.getMessage()), None
    return True


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Hand items on, showing how many are done."""
    with bar(label, len(items) if total is None and isinstance(items, Sized) else total) as advance:
        for done, item in enumerate(items, 1):
            yield item
            advance(done, {})


@contextmanager
def bar(label: str, total: int | None) -> Iterator[Advance]:
    """A bar over `total` steps, or plain lines without a terminal; call what it yields with steps done and values."""
    advance = Advance(label, total)
    if _terminal is None or not _terminal.console.is_terminal:
        yield advance
        return
    with Progress(_Line(advance, _terminal.console), console=_terminal.console) as advance.progress:
        advance.progress.add_task(label, total=total)
        yield advance


class _Line(ProgressColumn):
    """All that a bar tells, on one line of the terminal as wide as it is: figures are left out before one is cut."""

    def __init__(self, advance: Advance, console: Console) -> None:
        super().__init__()
        self.advance, self.console = advance, console

    def render(self, task: Task) -> Table:
        before, after, bar = self.advance.parts(self.console.width - 1)
        grid = Table.grid(padding=(0, 1))
        shown = ProgressBar(task.total, task.completed, width=bar)
        grid.add_row(before, *[shown] * (bar > 0), after)
        return grid


class Advance:
    def __init__(self, label: str, total: int | None) -> None:
        self.label, self.total = spelled(label), total
        self.console = _terminal.console if _terminal is not None else None
        self.progress: Progress | None = None
        self.start = self.last = time.monotonic()
        self.first: int | None = None
        self.done = 0
        self.figures: list[str] = []

    def __call__(self, done: int, values: Mapping[str, float]) -> None:
        """Show that so much is done; `values` stand beside the bar, the most important first."""
        now = time.monotonic()
        if self.first is None:
            self.first = done - 1
        self.done, self.figures = done, [f"{name} {figure(value)}" for name, value in values.items()]
        if self.progress is not None:
            self.progress.update(self.progress.task_ids[0], completed=done)
            return
        if self.console is None or (done != self.total and now - self.last < PLAIN_SECONDS):
            return
        self.last = now
        told = (f"{self.label} {self._place()}", self._time(), *self.figures)
        self.console.print("  ".join(filter(None, told)), markup=False)

    def parts(self, width: int) -> tuple[str, str, int]:
        """What stands before the bar and behind it, and how wide it is, so that all fits."""
        figures = list(self.figures)
        while True:
            for space, left in (("  ", " left"), (" ", " left"), (" ", "")):
                after = space.join(filter(None, (self._place(), self._time(left), *figures)))
                room = width - len(self.label) - len(after) - 2
                if room >= 0 or not figures:
                    return self.label, after, max(0, min(room, BAR) if room >= LEAST_BAR else 0)
            figures.pop()

    def _place(self) -> str:
        return f"{self.done}/{self.total}" if self.total else str(self.done)

    def _time(self, left: str = " left") -> str:
        """How long it still takes, or took."""
        if not self.total or self.first is None or self.done <= self.first:
            return ""
        took = time.monotonic() - self.start
        if self.done >= self.total:
            return f"took {duration(took)}"
        return f"{duration(took / (self.done - self.first) * (self.total - self.done))}{left}"


def figure(value: float) -> str:
    """A number in seven characters or little more: `0.693`, `-2.7e5`, `1.2e-6`."""
    text = f"{value:.3g}"
    mantissa, e, exponent = text.partition("e")
    if not e and value and abs(value) < 1e-3:
        mantissa, e, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}{e}{int(exponent)}" if e else text


def duration(seconds: float) -> str:
    """`42s`, `3m05s` or `2h07m`."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest}s"
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
