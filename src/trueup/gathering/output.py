"""Where the result goes, and what is said of work that did not come to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trueup import stop
from trueup.display import Display
from trueup.errors import AnnotatorError, InputError, Stopped
from trueup.feedback.convert.write import STANDARD_OUTPUT, check_output
from trueup.gathering.partial import Partial
from trueup.gathering.work import Work


def check_place(name: str, *, overwrite: bool) -> None:
    """Refuse what cannot or must not be written, before anything is read.

    Raises:
        InputError: the name has another suffix, its folder is absent, or the file is there.
    """
    if name == STANDARD_OUTPUT:
        raise InputError(
            "output: give a file, as work that is stopped goes on beside it; not the standard output"
        )
    check_output(name, force=True)
    if Path(name).exists() and not overwrite:
        raise InputError(
            f"{name}: the file is there already; give another output, or --overwrite to replace it"
        )


@contextmanager
def working(partial: Partial, display: Display) -> Iterator[Work]:
    """What a command does its work in; a stop, and a fault of an annotator, say that nothing done is lost.

    Raises:
        Stopped: a signal came.
    """

    @contextmanager
    def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
        with display.bar(what, total) as advance:
            yield lambda done: advance(done, {})

    try:
        with stop.on_signals():
            yield Work(partial, progress, stop.check)
    except Stopped as stopped:
        again = (
            f"; the same command goes on from {partial.path}"
            if partial.parts
            else " before anything was done"
        )
        display.say(f"stopped by {stopped}{again}")
        raise
    except AnnotatorError as error:
        if not partial.parts:
            raise
        raise AnnotatorError(
            f"{error}. What is done is kept in {partial.path}, and the same command goes on from there"
        ) from error
    finally:
        partial.close()
