"""What tests of gathering do their work in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trueup.errors import Stopped
from trueup.gathering.resumable import Work


@contextmanager
def work_at(output: Path) -> Iterator[Work]:
    """Work beside a file, gone on with where it was left."""
    work = Work(output, "trueup test", {})
    try:
        yield work
    finally:
        work.close()


def stop_at_check(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the user ask to stop just before the n-th time that anything looks for it."""
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == number:
            raise Stopped("SIGTERM")

    monkeypatch.setattr("trueup.stop.check", check)
