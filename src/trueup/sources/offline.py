"""Feedback collected before training: every pass over it in a new order that depends on the seed alone.

The order of the whole run is a function of (seed, step), so that a source has no state to save: a run resumes
at a step, not at a file position.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from trueup.batch.batch import Batch, collate_batch, cut
from trueup.batch.tokens import TokenGroup


@dataclass(frozen=True)
class OfflineSource:
    """Batches of `batch_size` examples from passes laid end to end; only the run's last batch may be smaller.

    Args:
        groups: the training examples.
        held_out_groups: the evaluation examples.
        collate: the method's index.
        batch_size: examples (groups) of an optimizer step.
        budget: stream tokens of a micro-batch.
        seed: decides the order.
        total: examples of the whole run, over all passes.
        poll: called before every micro-batch handed out for a reference or an evaluation; may raise to stop.
    """

    groups: Sequence[TokenGroup[Any]]
    held_out_groups: Sequence[TokenGroup[Any]]
    collate: Callable[..., Any]
    batch_size: int
    budget: int
    seed: int
    total: int
    poll: Callable[[], None] = lambda: None

    @property
    def num_steps(self) -> int:
        return math.ceil(self.total / self.batch_size)

    @property
    def has_held_out(self) -> bool:
        return bool(self.held_out_groups)

    def epoch(self, step: int) -> float:
        return min(step * self.batch_size, self.total) / len(self.groups)

    def step_groups(self, step: int) -> list[TokenGroup[Any]]:
        """The examples of optimizer step `step`, counted from 1."""
        first = (step - 1) * self.batch_size
        size = len(self.groups)
        return [
            self.groups[order(self.seed, place // size, size)[place % size]]
            for place in range(first, min(first + self.batch_size, self.total))
        ]

    def batches(self, step: int) -> list[Batch[Any]]:
        """The micro-batches of a step, always cut the same way."""
        return [collate_batch(part, self.collate) for part in cut(self.step_groups(step), self.budget)]

    def upcoming(self, step: int, count: int) -> Iterator[Batch[Any]]:
        for later in range(step + 1, min(step + count, self.num_steps) + 1):
            yield from self._polled(self.batches(later))

    def first_pass(self) -> Iterator[Batch[Any]]:
        return self.upcoming(0, math.ceil(min(self.total, len(self.groups)) / self.batch_size))

    def held_out(self) -> Iterator[Batch[Any]]:
        yield from self._polled(
            [collate_batch(part, self.collate) for part in cut(self.held_out_groups, self.budget)]
        )

    def _polled(self, batches: Sequence[Batch[Any]]) -> Iterator[Batch[Any]]:
        for batch in batches:
            self.poll()
            yield batch


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, size: int) -> tuple[int, ...]:
    """A permutation of `range(size)` for one pass."""
    places = list(range(size))
    random.Random(f"trueup order {seed} {epoch}").shuffle(places)
    return tuple(places)
