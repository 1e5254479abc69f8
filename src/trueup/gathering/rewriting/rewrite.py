"""A file of pairs with its chosen responses written anew: what `trueup train ulma` learns from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from statistics import fmean
from typing import Any

from trueup.errors import InputError
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example
from trueup.gathering.judging import left_out, spent, summed
from trueup.gathering.resumable import Work
from trueup.gathering.rewriting.demonstrator import Demonstrator, Pair, pair_of, spoken
from trueup.words import counted

CHUNK = 32
"""Pairs rewritten before their demonstrations are kept."""

logger = logging.getLogger(__name__)


def rewrite(
    examples: Sequence[Example], load: Callable[[], Demonstrator], work: Work, *, model: str
) -> tuple[Example, ...]:
    """Put a demonstration in place of the chosen response of every pair, keep the rejected ones as points, and say so.

    Args:
        load: who writes; called only where something is left to write.
        model: its name, the source of the demonstrations.

    Raises:
        AnnotatorError: the endpoint fails, or too many demonstrations are unusable.
        Stopped: the user asked to stop.
        InputError: no example was rewritten, or what is done cannot be kept.
    """
    found = [pair_of(example) for example in examples]
    pairs = [one for one in found if isinstance(one, Pair)]
    dropped = [one for one in found if isinstance(one, Discarded)]
    label = f"rewriting by {model}"
    parts = work.in_parts("rewrite", label, pairs, CHUNK, lambda: nullcontext(load()), _written)
    rows = [row for part in parts for row in part["rows"]]
    done: list[tuple[Pair, str]] = []
    for pair, row in zip(pairs, rows, strict=True):
        if "text" in row:
            done.append((pair, row["text"]))
        else:
            dropped.append(Discarded(row["dropped"], pair.example.origin))
    for line in (*_lines(done, dropped, model), *spent(summed(part["facts"] for part in parts))):
        logger.info(line)
    if not done:
        raise InputError(
            f"none of {counted(len(examples), 'example')} was rewritten, for the reasons above; nothing was written. "
            "Give pairs: examples in which one response is preferred to another"
        )
    return tuple(pair.rewritten(text, model) for pair, text in done)


def _written(demonstrator: Demonstrator, name: str, chunk: Sequence[Pair]) -> dict[str, Any]:
    made, facts = demonstrator.write(chunk)
    rows = [{"dropped": one.reason} if isinstance(one, Discarded) else {"text": one} for one in made]
    return {"rows": rows, "facts": facts}


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
