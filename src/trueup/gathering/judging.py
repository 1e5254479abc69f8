"""Examples judged a few at a time, each piece kept as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trueup.annotators.annotator import Annotator
from trueup.feedback.canonical import example_from_row, example_to_row
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example, Origin
from trueup.feedback.viewed import places
from trueup.gathering.work import Work
from trueup.words import counted

CHUNK = 64
"""Examples judged before their judgements are kept."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What an annotator made of examples."""

    examples: tuple[Example | Discarded, ...]
    """In the order given."""
    facts: Mapping[str, float]
    """What it took, as sums over all of it, by earlier processes too."""

    @property
    def kept(self) -> tuple[Example, ...]:
        """The examples that were judged."""
        return tuple(one for one in self.examples if isinstance(one, Example))

    @property
    def dropped(self) -> tuple[Discarded, ...]:
        """Those that were not, and why."""
        return tuple(one for one in self.examples if isinstance(one, Discarded))


def left_out(dropped: Sequence[Discarded]) -> str | None:
    """For people: `3 examples left out: 2 for ... (a.jsonl:4, a.jsonl:9), 1 for ...`; None where there are none."""
    if not dropped:
        return None
    why: dict[str, list[Origin | None]] = {}
    for one in dropped:
        why.setdefault(one.reason, []).append(one.origin)
    reasons = [f"{len(where)} for {reason}{places(where)}" for reason, where in why.items()]
    return f"{counted(len(dropped), 'example')} left out: {', '.join(reasons)}"


def judge(examples: Sequence[Example], load: Callable[[], Annotator], work: Work) -> Judged:
    """Have every example judged; what is kept already is not asked for again.

    Args:
        load: the annotator; called only where something is left to judge.

    Raises:
        AnnotatorError: it cannot be reached or afforded, or too many of its verdicts cannot be read.
        Stopped: the user asked to stop.
        InputError: an example cannot be judged, or what is done cannot be kept.
    """
    loaded: list[Annotator] = []

    @contextmanager
    def prepare() -> Iterator[None]:
        loaded.append(load())
        yield
        loaded.clear()

    kept = work.pieces(
        "judge", "judging", examples, CHUNK, lambda name, chunk: _judge(loaded[0], chunk), prepare
    )
    rows: list[Mapping[str, Any]] = []
    facts: dict[str, float] = {}
    for part in kept:
        rows += part["rows"]
        for name, value in part["facts"].items():
            facts[name] = facts.get(name, 0.0) + value
    return Judged(tuple(_read(row, example) for row, example in zip(rows, examples, strict=True)), facts)


def _judge(annotator: Annotator, chunk: Sequence[Example]) -> dict[str, Any]:
    annotated = annotator.annotate(chunk)
    rows = [
        {"dropped": one.reason} if isinstance(one, Discarded) else example_to_row(one)
        for one in annotated.examples
    ]
    return {"rows": rows, "facts": dict(annotated.facts)}


def _read(row: Mapping[str, Any], example: Example) -> Example | Discarded:
    if "dropped" in row:
        return Discarded(row["dropped"], example.origin)
    origin = example.origin or Origin("examples", 1)
    return example_from_row(row, origin)
