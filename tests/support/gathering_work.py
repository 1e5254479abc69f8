"""What tests of gathering do their work in."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from trueup.errors import Stopped
from trueup.gathering.resumable import Work

SETTINGS = {"seed": 1, "model": "m"}


def work_at(output: Path, settings: Mapping[str, object] = SETTINGS) -> closing[Work]:
    """Work beside a file, gone on with where it was left."""
    return closing(Work(output, "trueup x", settings))


def stop_at_check(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the user ask to stop just before the n-th time that anything looks for it."""
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == number:
            raise Stopped("SIGTERM")

    monkeypatch.setattr("trueup.stop.check", check)
