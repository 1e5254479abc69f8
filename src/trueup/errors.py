"""What trueup says when it cannot go on: one line, and an exit code.
Every message tells what was given, where (file, row, key), why not, and what to do instead. The command line prints the
message alone; a traceback is left for defects of trueup itself."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class TrueupError(Exception):
    """A condition to report to the user in one line."""

    exit_code = 1
    shown_elsewhere = False  # whether another of several processes shows it


class InputError(TrueupError):
    """A mistake in what the user gave: settings, feedback files, a model folder, a run folder."""

    exit_code = 2


class CheckpointError(TrueupError):
    """A checkpoint that cannot be written or trusted."""

    exit_code = 4


class NumericsError(TrueupError):
    """A loss, gradient or invariant that makes further training meaningless."""

    exit_code = 5


class AnnotatorError(TrueupError):
    """An annotator that cannot be reached, understood or afforded."""

    exit_code = 6


class LostProcess(TrueupError):
    """Another of several processes ended without a word of why."""


@contextmanager
def naming(where: object) -> Iterator[None]:
    """Around what an InputError may come of: its message begins with where that was, if that is known."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: a GPU's, or the machine's where an allocation tells."""
    told = re.search("out of memory|(can't|cannot) allocate memory|not enough memory", str(error))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and told is not None)


class Stopped(Exception):
    """The user asked the work to stop, which can go on later; `str()` is the signal's name. Not an error, but not done
    either: the command exits as a shell tells of a process that a signal ended, with 143 (SIGTERM) or 130 (SIGINT)."""

    @property
    def exit_code(self) -> int:
        return 128 + signal.Signals[str(self)]
