"""Work in pieces: what is done is kept, shown, and can be stopped between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from trueup.gathering.partial import Partial

T = TypeVar("T")


class Progress(Protocol):
    """Shows how far a piece of work is."""

    def __call__(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """A context that gives a function to be told how much is done."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """How a command does its work."""

    partial: Partial
    progress: Progress
    poll: Callable[[], None]
    """Called between pieces; raises Stopped once the user has asked to stop."""

    def pieces(
        self,
        name: str,
        what: str,
        items: Sequence[T],
        size: int,
        make: Callable[[str, Sequence[T]], Any],
        prepare: Callable[[], AbstractContextManager[object]],
    ) -> Iterator[Any]:
        """What `make` makes of every `size` items, in order; of pieces that are kept, as it was kept.

        Items are always cut in the same way, so that it does not matter where an earlier process was stopped.

        Args:
            name: of this work within the command; that of a piece is this and its number.
            what: for people.
            make: (name of the piece, its items) -> something JSON-ready.
            prepare: what the work is done in; entered only where something is left to do.
        """
        parts = [(f"{name} {start // size}", start) for start in range(0, len(items), size)]
        missing = [(part, start) for part, start in parts if part not in self.partial.parts]
        if missing:
            with prepare(), self.progress(what, len(items)) as advance:
                for part, start in missing:
                    self.poll()
                    self.partial.keep(part, make(part, items[start : start + size]))
                    advance(min(start + size, len(items)))
        return (self.partial.parts[part] for part, _ in parts)
