"""SIGTERM and Ctrl-C: the first asks the run to stop where it can go on later, the second ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trueup.errors import Stopped


class StopFlag:
    """Set by a signal, looked at between pieces of work."""

    def __init__(self) -> None:
        self.name: str | None = None

    def poll(self) -> None:
        """Raise Stopped once a signal has come."""
        if self.name is not None:
            raise Stopped(self.name)


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Turn SIGTERM and SIGINT into a flag while the block runs; only in the main thread."""
    flag = StopFlag()

    def handle(number: int, frame: FrameType | None) -> None:
        if flag.name is not None:
            os._exit(128 + number)
        flag.name = signal.Signals(number).name

    try:
        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are somebody else's business
        yield flag
        return
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
