"""Ends a call that does not come to an end, in whatever thread it runs.

A chat template is a program of the model's author, and may loop. A signal reaches the main thread only, and a thread
that renders cannot be killed; so a clock beside it has the interpreter raise an exception inside the call, which
ends it at its next step of Python. A single step that takes for ever (10 ** 10 ** 10) is out of its reach.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TICK = 0.1
"""Seconds between two looks at the calls under way."""


class _OutOfTime(BaseException):
    """Raised inside a call. Not an Exception, so that nothing between takes it for an error of its own."""


class _Clock:
    """Calls under way, and a thread that looks at them for as long as there are any."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls: dict[object, tuple[int, float]] = {}
        """A call -> its thread, and when its time is up."""
        self.thread: threading.Thread | None = None
        self.idle = True

    def start(self, call: object, seconds: float) -> None:
        with self.lock:
            self.calls[call] = threading.get_ident(), time.monotonic() + seconds
            self.idle = False
            if self.thread is None or not self.thread.is_alive():  # a fork leaves it behind
                self.thread = threading.Thread(target=self._watch, name="time limit", daemon=True)
                self.thread.start()

    def stop(self, call: object) -> None:
        with self.lock:
            self.calls.pop(call, None)

    def _watch(self) -> None:
        while True:
            time.sleep(TICK)
            with self.lock:
                if self.idle and not self.calls:
                    self.thread = None
                    return
                self.idle = True
                now = time.monotonic()
                for call in [call for call, (_, end) in self.calls.items() if end < now]:
                    _raise_in(self.calls.pop(call)[0], ctypes.py_object(_OutOfTime))


_CLOCK = _Clock()


def within(seconds: float, call: Callable[[], T]) -> T:
    """What the call returns.

    Raises:
        TimeoutError: it had not returned after so many seconds, and was ended.
    """
    try:
        return _timed(seconds, call)
    except _OutOfTime:
        raise TimeoutError(f"not done after {seconds:g} seconds") from None


def _timed(seconds: float, call: Callable[[], T]) -> T:
    this, thread = object(), threading.get_ident()
    _CLOCK.start(this, seconds)
    try:
        return call()
    finally:
        # From here on nothing is raised any more: what the clock raised before, and nobody met yet, is taken back.
        _CLOCK.stop(this)
        _raise_in(thread, None)


def _raise_in(thread: int, what: object) -> None:
    """Have the interpreter raise `what` in a thread at its next step; None takes it back."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
