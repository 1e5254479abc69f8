"""What the loop asks of a source of examples; it cannot tell one kind from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trueup.batch.batch import Batch
from trueup.batch.tokens import TokenGroup
from trueup.references.reference import Feed, State


class Source(Feed, Protocol):
    """Batches by step. What one hands out for a step is always the same."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        ...

    @property
    def has_held_out(self) -> bool:
        """Whether there is feedback to evaluate on."""
        ...

    def first_groups(self) -> Sequence[TokenGroup[Any]]:
        """Groups that stand for those of the first step where layout and threads are chosen; asks nobody."""
        ...

    def first_batch(self) -> Batch[Any]:
        """A batch on which policy and reference are compared before the first step; asks nobody."""
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

    def batches(self, step: int) -> Sequence[Batch[Any]]:
        """The micro-batches of a step, counted from 1, always cut the same way."""
        ...

    def mismatched(self, step: int) -> Sequence[Batch[Any]]:
        """The step's prompts with responses to other prompts, for methods that ask for them; else nothing."""
        ...

    def held_out_batches(self) -> Sequence[Batch[Any]]:
        """The micro-batches of the evaluation data."""
        ...

    def held_out_mismatched(self) -> Sequence[Batch[Any]]:
        """As `mismatched`, of the evaluation data."""
        ...
