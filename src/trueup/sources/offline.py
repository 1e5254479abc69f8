"""Feedback collected before training: every pass over it in a new order that depends on the seed alone.

The order of the whole run is a function of (seed, step), so that a source has no state to save: a run resumes
at a step, not at a file position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trueup.batch.batch import Batch, collate_batch, cut
from trueup.batch.index import Demonstrations
from trueup.batch.tokens import TokenGroup, tokens_identity
from trueup.references.reference import State
from trueup.sources.order import order, stratified

Pairing = Callable[[TokenGroup[Any], TokenGroup[Any]], TokenGroup[Any] | None]
"""(group, another) -> the first one's prompt with the other's responses; None where they do not go together."""


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
        stratum: class of a group of which every batch holds its share; None mixes all freely.
        pairing: makes the mismatched group of a group and a later one in the pass; None where none are wanted.
    """

    groups: Sequence[TokenGroup[Any]]
    held_out_groups: Sequence[TokenGroup[Any]]
    collate: Callable[..., Any]
    batch_size: int
    budget: int
    seed: int
    total: int
    poll: Callable[[], None] = lambda: None
    stratum: Callable[[Any], Hashable] | None = None
    pairing: Pairing | None = None
    _orders: dict[int, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

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
        return [self._group(place) for place in self._places(step)]

    def first_groups(self) -> list[TokenGroup[Any]]:
        return self.step_groups(1)

    def first_batch(self) -> Batch[Any]:
        return self.batches(1)[0]

    def identity(self) -> str:
        return tokens_identity((*self.groups, *self.held_out_groups))

    def metrics(self, step: int) -> Mapping[str, float]:
        return {}

    def state(self) -> State:
        return State()

    def restore(self, state: State) -> None:
        """The order is a function of the seed and the step; nothing has to be restored."""

    def batches(self, step: int) -> list[Batch[Any]]:
        """The micro-batches of a step, always cut the same way."""
        return self._cut(self.step_groups(step), self.collate)

    def mismatched(self, step: int) -> list[Batch[Any]]:
        """The micro-batches of the step's prompts with responses to other prompts.

        Each prompt takes the responses of the next group in the pass that has another one: the step's own
        responses moved on by one, up to the last.
        """
        if self.pairing is None:
            return []
        size = len(self.groups)
        made = []
        for place in self._places(step):
            start = place - place % size
            following = (self._group(start + (place + more) % size) for more in range(1, size))
            made.append(self._paired(self._group(place), following))
        return self._cut([group for group in made if group], Demonstrations.collate)

    def upcoming(self, step: int, count: int) -> Iterator[Batch[Any]]:
        for later in range(step + 1, min(step + count, self.num_steps) + 1):
            yield from self._polled([*self.batches(later), *self.mismatched(later)])

    def everything(self) -> Iterator[Batch[Any]]:
        first_pass = math.ceil(min(self.total, len(self.groups)) / self.batch_size)
        yield from self.upcoming(0, first_pass)
        for later in range(first_pass + 1, self.num_steps + 1):
            yield from self._polled(self.mismatched(later))

    def held_out(self) -> Iterator[Batch[Any]]:
        yield from self._polled([*self.held_out_batches(), *self.held_out_mismatched()])

    def held_out_batches(self) -> list[Batch[Any]]:
        """The micro-batches of the evaluation data."""
        return self._cut(self.held_out_groups, self.collate)

    def held_out_mismatched(self) -> list[Batch[Any]]:
        """As `mismatched`, of the evaluation data in its own order."""
        if self.pairing is None:
            return []
        groups, size = self.held_out_groups, len(self.held_out_groups)
        made = [
            self._paired(group, (groups[(place + more) % size] for more in range(1, size)))
            for place, group in enumerate(groups)
        ]
        return self._cut([group for group in made if group], Demonstrations.collate)

    def _places(self, step: int) -> range:
        first = (step - 1) * self.batch_size
        return range(first, min(first + self.batch_size, self.total))

    def _group(self, place: int) -> TokenGroup[Any]:
        epoch, within = divmod(place, len(self.groups))
        return self.groups[self._order(epoch)[within]]

    def _order(self, epoch: int) -> tuple[int, ...]:
        if epoch not in self._orders:
            made = order(self.seed, epoch, len(self.groups))
            if self.stratum is not None:
                made = stratified(made, [self.stratum(group.relation) for group in self.groups])
            while len(self._orders) >= 2:
                self._orders.pop(next(iter(self._orders)))
            self._orders[epoch] = made
        return self._orders[epoch]

    def _paired(self, group: TokenGroup[Any], others: Iterable[TokenGroup[Any]]) -> TokenGroup[Any] | None:
        assert self.pairing is not None
        return next((made for other in others if (made := self.pairing(group, other))), None)

    def _cut(self, groups: Sequence[TokenGroup[Any]], collate: Callable[..., Any]) -> list[Batch[Any]]:
        return [collate_batch(part, collate) for part in cut(groups, self.budget)]

    def _polled(self, batches: Sequence[Batch[Any]]) -> Iterator[Batch[Any]]:
        for batch in batches:
            self.poll()
            yield batch
