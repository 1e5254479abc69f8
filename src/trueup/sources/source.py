"""What the loop asks of a source of examples, which it cannot tell one kind from another, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trueup.batch.batch import Batch, collate_batch, cut
from trueup.batch.index import Demonstrations
from trueup.batch.tokens import TokenGroup
from trueup.feedback.condition import Condition
from trueup.references.reference import BatchSource, State

Pairing = Callable[[TokenGroup[Any], TokenGroup[Any]], TokenGroup[Any] | None]
"""(group, another) -> the first one's prompt with the other's responses; None where they do not go together."""


@dataclass(frozen=True, slots=True)
class Step:
    """The micro-batches of an optimizer step, or of an evaluation. Iterating goes through all of them."""

    batches: Sequence[Batch[Any]] = ()
    """What is learned from; empty where a round of online feedback gave nothing."""
    mismatched: Sequence[Batch[Any]] = ()
    """Its prompts with responses to other prompts, for methods that measure something on them."""

    def __iter__(self) -> Iterator[Batch[Any]]:
        yield from self.batches
        yield from self.mismatched


@dataclass(frozen=True, slots=True)
class Batching:
    """How the groups of a step are cut into micro-batches: always the same way.

    Args:
        collate: the method's index.
        budget: stream tokens of a micro-batch.
        pairing: makes the mismatched group of a group and another one; None where none are wanted.
    """

    collate: Callable[..., Any]
    budget: int
    pairing: Pairing | None = None

    def step(
        self, groups: Sequence[TokenGroup[Any]], others: Iterable[Iterable[TokenGroup[Any]]] | None = None
    ) -> Step:
        """The micro-batches of some groups.

        Args:
            others: for each group those it may be paired with, of which the first that fits is taken. Left out:
                those that follow it in `groups`, around its end.
        """
        if self.pairing is None:
            return Step(self._cut(groups, self.collate))
        if others is None:
            size = len(groups)
            others = ((groups[(place + more) % size] for more in range(1, size)) for place in range(size))
        paired = [self._paired(group, several) for group, several in zip(groups, others, strict=True)]
        return Step(
            self._cut(groups, self.collate),
            self._cut([group for group in paired if group], Demonstrations.collate),
        )

    def _paired(self, group: TokenGroup[Any], others: Iterable[TokenGroup[Any]]) -> TokenGroup[Any] | None:
        assert self.pairing is not None
        return next((made for other in others if (made := self.pairing(group, other))), None)

    def _cut(self, groups: Sequence[TokenGroup[Any]], collate: Callable[..., Any]) -> list[Batch[Any]]:
        return [collate_batch(part, collate) for part in cut(groups, self.budget)]


class Source(BatchSource, Protocol):
    """Steps by number. What one hands out for a step is always the same."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        ...

    @property
    def has_held_out(self) -> bool:
        """Whether there is feedback to evaluate on."""
        ...

    @property
    def condition(self) -> Condition | None:
        """What the method wrote into the prompts that were learned from, to be kept with the model."""
        ...

    def first_groups(self) -> Sequence[TokenGroup[Any]]:
        """Groups that stand for those of the first step where layout and threads are chosen; asks nobody."""
        ...

    def identity(self) -> str:
        """Hash of the tokens that are known when a run begins."""
        ...

    def metrics(self, step: int) -> Mapping[str, float]:
        """What gathering the examples of a step took and gave; nothing where they were there before."""
        ...

    def state(self) -> State:
        """What a checkpoint has to hold beside the step."""
        ...

    def restore(self, state: State) -> None:
        """Go back to a saved state."""
        ...

    def epoch(self, step: int) -> float:
        """Passes over the data completed after a step."""
        ...

    def step(self, number: int) -> Step:
        """The micro-batches of an optimizer step, counted from 1, always cut the same way.

        Raises:
            Stopped, AnnotatorError, InputError, NumericsError: feedback has to be gathered for it, and cannot be had;
                what was gathered before is kept.
        """
        ...

    def held_out(self) -> Step:
        """The micro-batches of the evaluation data; empty where there is none."""
        ...
