"""What the user sees while a run goes on: a bar with the time left, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

SHOWN = ("loss", "online/score", "objective/kl", "rewards/accuracies", "rewards/margins", "kl", "eval_loss")
PLAIN_SECONDS = 5.0
"""Least time between two plain lines."""


class Display:
    """Notices and progress on standard error.

    Args:
        quiet: show warnings only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.warnings = Console(stderr=True, highlight=False, soft_wrap=True) if quiet else self.console

    def say(self, line: str) -> None:
        """Something the user should know."""
        self.console.print(line, markup=False)

    def warn(self, line: str) -> None:
        """Something the user should look at."""
        self.warnings.print(f"warning: {line}", markup=False, style="yellow")

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Hand items on, showing how many are done."""
        with self.bar(label, total if total is not None else _length(items)) as advance:
            for done, item in enumerate(items, 1):
                yield item
                advance(done, {})

    @contextmanager
    def bar(self, label: str, total: int | None) -> Iterator[Advance]:
        """A bar over `total` steps; call what it yields with the steps done and values to show."""
        if not self.console.is_terminal:
            yield Advance(self, label, total)
            return
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
        )  # fmt: skip
        with Progress(*columns, console=self.console, transient=False) as progress:
            yield Advance(self, label, total, progress)


class Advance:
    """Moves one bar."""

    def __init__(
        self, display: Display, label: str, total: int | None, progress: Progress | None = None
    ) -> None:
        self.display, self.label, self.total, self.progress = display, label, total, progress
        self.task = progress.add_task(label, total=total, shown="") if progress else None
        self.start = self.last = time.monotonic()
        self.first: int | None = None

    def of(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """Move on, learning the total on the way."""
        if self.total is None and self.progress is not None and self.task is not None:
            self.progress.update(self.task, total=total)
        self.total = total
        self(done, values)

    def __call__(self, done: int, values: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {values[name]:.4g}" for name in SHOWN if name in values)
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, shown=shown)
            return
        now = time.monotonic()
        if self.first is None:
            self.first = done - 1
        if done != self.total and now - self.last < PLAIN_SECONDS:
            return
        self.last = now
        of = f"/{self.total}" if self.total else ""
        left = ""
        if self.total and done > self.first:
            seconds = (now - self.start) / (done - self.first) * (self.total - done)
            left = (
                f"  {duration(seconds)} left" if done < self.total else f"  took {duration(now - self.start)}"
            )
        self.display.say(f"{self.label} {done}{of}{left}  {shown}".rstrip())


def duration(seconds: float) -> str:
    """`42s`, `3m05s` or `2h07m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _length(items: Iterable[object]) -> int | None:
    return len(items) if isinstance(items, Sized) else None
