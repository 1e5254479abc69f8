"""A file of pairs with its chosen responses written anew: what `trueup train ulma` learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example
from trueup.gathering.judging import left_out
from trueup.gathering.rewriting.demonstrator import Demonstrator
from trueup.gathering.rewriting.pair import Pair, pair_of, spoken
from trueup.gathering.work import Work
from trueup.words import counted

CHUNK = 32
"""Pairs rewritten before their demonstrations are kept."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What became of examples."""

    examples: tuple[Example, ...]
    lines: tuple[str, ...]
    """For people."""
    facts: Mapping[str, float]
    """What it took, as sums."""


def rewrite(
    examples: Sequence[Example], load: Callable[[], Demonstrator], work: Work, *, model: str
) -> Rewritten:
    """Put a demonstration in place of the chosen response of every pair, and keep the rejected ones as points.

    Args:
        load: who writes; called only where something is left to write.
        model: its name, the source of the demonstrations.

    Raises:
        AnnotatorError: the endpoint fails, or too many demonstrations are unusable.
        Stopped: the user asked to stop.
        InputError: what is done cannot be kept.
    """
    found = [pair_of(example) for example in examples]
    pairs = [one for one in found if isinstance(one, Pair)]
    dropped = [one for one in found if isinstance(one, Discarded)]
    loaded: list[Demonstrator] = []

    @contextmanager
    def prepare() -> Iterator[None]:
        loaded.append(load())
        yield
        loaded.clear()

    def write(name: str, chunk: Sequence[Pair]) -> dict[str, Any]:
        made, facts = loaded[0].write(chunk)
        rows = [{"dropped": one.reason} if isinstance(one, Discarded) else {"text": one} for one in made]
        return {"rows": rows, "facts": facts}

    rows: list[Mapping[str, str]] = []
    facts: dict[str, float] = {}
    for part in work.pieces("rewrite", f"rewriting by {model}", pairs, CHUNK, write, prepare):
        rows += part["rows"]
        for name, value in part["facts"].items():
            facts[name] = facts.get(name, 0.0) + value
    done: list[tuple[Pair, str]] = []
    for pair, row in zip(pairs, rows, strict=True):
        if "text" in row:
            done.append((pair, row["text"]))
        else:
            dropped.append(Discarded(row["dropped"], pair.example.origin))
    made = tuple(pair.rewritten(text, model) for pair, text in done)
    return Rewritten(made, tuple(_lines(done, dropped, model)), facts)


def _lines(done: Sequence[tuple[Pair, str]], dropped: Sequence[Discarded], model: str) -> Iterator[str]:
    if done:
        words = fmean(len(text.split()) for _, text in done)
        before = fmean(len(spoken(pair.chosen.content).split()) for pair, _ in done)
        yield (
            f"{counted(len(done), 'chosen response')} rewritten by {model}: {words:.1f} words on average, where they "
            f"had {before:.1f}"
        )
        same = sum(text.strip() == spoken(pair.chosen.content).strip() for pair, text in done)
        if same:
            yield f"{same} of them say what the chosen response said"
        points = sum(len(pair.rejected) for pair, _ in done)
        yield f"{counted(points, 'rejected response')} kept as points with the label 0"
        others = sum(pair.left_out for pair, _ in done)
        if others:
            yield f"{counted(others, 'response')} left out, neither replaced nor always rejected"
    if line := left_out(dropped):
        yield line
