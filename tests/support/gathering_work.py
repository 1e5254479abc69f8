"""What tests of gathering do their work in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trueup.gathering.partial import Partial
from trueup.gathering.work import Work


@contextmanager
def unseen(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress that nobody watches."""
    yield lambda done: None


@contextmanager
def work_at(
    output: Path, poll: Callable[[], None] = lambda: None, settings: dict[str, object] | None = None
) -> Iterator[Work]:
    """Work beside a file, gone on with where it was left."""
    partial = Partial(output, "trueup test", settings or {})
    try:
        yield Work(partial, unseen, poll)
    finally:
        partial.close()
