"""What the loop asks of a source of examples; it cannot tell one kind from another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from trueup.batch.batch import Batch
from trueup.references.reference import Feed


class Source(Feed, Protocol):
    """Batches by step. What a source hands out is a function of its settings and the step alone."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        ...

    @property
    def has_held_out(self) -> bool:
        """Whether there is feedback to evaluate on."""
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
