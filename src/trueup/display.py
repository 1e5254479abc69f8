"""What the user sees on standard error: what is logged under `trueup`, and how far the work has come.

A module says something with `logging.getLogger(__name__).info(line)`, and shows progress with `track` or `bar`. Both
reach the terminal inside `shown`, which the command opens; elsewhere, progress is silent and messages are any
library's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trueup.errors import Stopped, TrueupError
from trueup.words import one_line, reason

T = TypeVar("T")

logger = logging.getLogger("trueup")
data_logger = logging.getLogger("trueup.data")
"""For what the model card tells of the data: what each source was taken for, and what became of it."""

PLAIN_SECONDS = 5.0
"""Least time between two plain lines of progress."""


class Terminal(logging.Handler):
    """Prints messages on standard error.

    Args:
        quiet: print warnings only, and no progress.
    """

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


class _Collector(logging.Handler):
    """Keeps the text of messages."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


_terminal: Terminal | None = None


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[None]:
    """Show what the block says and how far it is on standard error; inside another one, in its place.

    Args:
        quiet: show warnings only.
    """
    global _terminal
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
    """A list to which every message of a logger is added while the block runs."""
    collector = _Collector()
    with _handled_by(collector, source):
        yield collector.lines


class _File(logging.FileHandler):
    """A file of messages. A disk that is full costs the line, and not the work."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: the message has gone to the terminal too."""


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append what the block says to a file, with time and level of each message, and the error that ended it.

    A file that cannot be opened is left out, with a warning. A stop is no error.
    """
    handler = None
    try:
        handler = _File(path, encoding="utf-8")
    except OSError as error:
        logger.warning(f"{path}: what is said is not written there: {reason(error)}")
    if handler is None:
        yield
        return
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
    logger.setLevel(logging.INFO)
    source.addHandler(handler)
    try:
        yield
    finally:
        source.removeHandler(handler)
        logger.setLevel(level)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Hand items on, showing how many are done."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(label, total) as advance:
        for done, item in enumerate(items, 1):
            yield item
            advance(done, {})


@contextmanager
def bar(label: str, total: int | None) -> Iterator[Advance]:
    """A bar over `total` steps, or plain lines where there is no terminal.

    Call what it yields with the steps done and values to show.
    """
    if _terminal is None or not _terminal.console.is_terminal:
        yield Advance(label, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}", markup=False),
    )
    with Progress(*columns, console=_terminal.console, transient=False) as progress:
        yield Advance(label, total, progress)


class Advance:
    """Moves one bar."""

    def __init__(self, label: str, total: int | None, progress: Progress | None = None) -> None:
        self.label, self.total, self.progress = label, total, progress
        self.console = _terminal.console if _terminal is not None else None
        self.task = progress.add_task(label, total=total, shown="") if progress else None
        self.start = self.last = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, values: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, shown=shown)
            return
        now = time.monotonic()
        if self.first is None:
            self.first = done - 1
        if self.console is None or (done != self.total and now - self.last < PLAIN_SECONDS):
            return
        self.last = now
        of = f"/{self.total}" if self.total else ""
        left = ""
        if self.total and done > self.first:
            seconds = (now - self.start) / (done - self.first) * (self.total - done)
            ended = f"  took {duration(now - self.start)}"
            left = f"  {duration(seconds)} left" if done < self.total else ended
        self.console.print(f"{self.label} {done}{of}{left}  {shown}".rstrip(), markup=False)


def duration(seconds: float) -> str:
    """`42s`, `3m05s` or `2h07m`."""
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m{total % 60:02d}s"
    return f"{total // 3600}h{total % 3600 // 60:02d}m"
