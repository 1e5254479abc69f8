"""Objectives whose loss depends on the whole step, not on one example at a time.

KTO measures every response against an estimate over the batch; the authors of ULMA divide by how many of each
class a batch holds. Micro-batches are computed one by one, so such a number is measured first, over all of the
step's micro-batches, and then given to the objective for each of them: the result does not depend on the cut.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from trueup.batch.rows import LogProbs
from trueup.objectives.loss import Loss

Ref = TypeVar("Ref")
Index = TypeVar("Index")


class StepRows(Protocol):
    """The rows of all micro-batches of a step, without gradients and without dropout."""

    def indexes(self) -> Iterable[Any]:
        """The index of each micro-batch; nothing is computed."""

    def own(self) -> Iterable[tuple[LogProbs, Any, Any]]:
        """Log-probabilities under policy and reference, and the index, of each micro-batch."""

    def mismatched(self) -> Iterable[tuple[LogProbs, Any]]:
        """Log-probabilities under policy and reference of responses that answer another prompt."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured over a step before its loss.

    Measured on the index alone it costs nothing; on the step's own responses a forward pass of the policy, and on
    mismatched ones one of policy and reference.
    """

    values: Callable[[StepRows], Iterable[torch.Tensor]]
    """[m, k] of each micro-batch: one line for each thing measured."""
    needs_mismatched: bool = False
    """Whether the source has to pair prompts with responses to other prompts."""

    def take(self, rows: StepRows) -> torch.Tensor:
        """[M, k] float64, in the order of the micro-batches."""
        return torch.cat([values.double() for values in self.values(rows)])


@dataclass(frozen=True, slots=True)
class StepObjective(Generic[Ref, Index]):
    """An objective that is given what was measured over the whole step."""

    measurement: Measurement
    objective: Callable[[LogProbs, Ref, Index, torch.Tensor], Loss]
    """As a plain objective, with the [M, k] measured values last."""

    def given(self, rows: StepRows) -> Callable[[LogProbs, Ref, Index], Loss]:
        """The plain objective of one step."""
        measured = self.measurement.take(rows)

        def objective(policy: LogProbs, reference: Ref, index: Index) -> Loss:
            return self.objective(policy, reference, index, measured.to(policy.token_S.device))

        return objective
