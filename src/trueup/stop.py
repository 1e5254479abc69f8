"""SIGTERM and Ctrl-C: the first asks the work to stop where it can go on later, the second ends it at once.
Long work calls `check` between its steps and pieces; nothing is handed down for it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trueup.errors import Stopped
from trueup.parallel.processes import gather, shared, size

_signal: str | None = None


def check() -> None:
    """Raise Stopped once the user asked to stop."""
    if _signal is not None:
        raise Stopped(_signal)


def check_together() -> None:
    """As `check`, in all processes at once: what one of several is asked, all do."""
    if size() == 1:
        check()
    elif any(stops := gather(_signal)):
        raise shared(Stopped(next(filter(None, stops))))


def _handle(number: int, frame: FrameType | None) -> None:
    global _signal
    if _signal is not None:
        os._exit(128 + number)
    _signal = signal.Signals(number).name


@contextmanager
def on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT ask to stop until the block ends; only in the main thread."""
    global _signal
    try:
        before = {number: signal.signal(number, _handle) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread, which alone may handle signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _handle not in before.values():
            _signal = None
