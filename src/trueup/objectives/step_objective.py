"""Objectives whose loss depends on the whole step, not on one example at a time.

KTO measures every response against an estimate over the batch; the authors of ULMA divide by how many of each
class a batch holds. Micro-batches are computed one by one, so such a number is measured first, over all of the
step's micro-batches, and then given to the objective for each of them: the result does not depend on the cut.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from trueup.batch.rows import LogProbs
from trueup.objectives.loss import Loss

Ref = TypeVar("Ref")
Index = TypeVar("Index")


class StepRows(Protocol):
    """The rows of all micro-batches of a step, without gradients and without dropout."""

    def indexes(self) -> Iterable[Any]:
        """The index of each micro-batch; nothing is computed."""
        ...

    def own(self) -> Iterable[tuple[LogProbs, Any, Any]]:
        """Log-probabilities under policy and reference, and the index, of each micro-batch."""
        ...

    def mismatched(self) -> Iterable[tuple[LogProbs, Any]]:
        """Log-probabilities under policy and reference of responses that answer another prompt."""
        ...


class Measurement(Protocol):
    """What is measured over a step before its loss."""

    @property
    def needs_mismatched(self) -> bool:
        """Whether the source has to pair prompts with responses to other prompts."""
        ...

    def take(self, rows: StepRows) -> Tensor:
        """[M, k] float64: one line for each thing measured, in the order of the micro-batches."""
        ...


@dataclass(frozen=True, slots=True)
class OfIndex(Generic[Index]):
    """Measured on the index alone, such as counts of labels; costs nothing."""

    measure: Callable[[Index], Tensor]
    needs_mismatched = False

    def take(self, rows: StepRows) -> Tensor:
        return torch.cat([self.measure(index).double() for index in rows.indexes()])


@dataclass(frozen=True, slots=True)
class OfOwnRows(Generic[Ref, Index]):
    """Measured on the step's own responses; costs a forward pass of the policy."""

    measure: Callable[[LogProbs, Ref, Index], Tensor]
    needs_mismatched = False

    def take(self, rows: StepRows) -> Tensor:
        return torch.cat([self.measure(*each).double() for each in rows.own()])


@dataclass(frozen=True, slots=True)
class OfMismatched(Generic[Ref]):
    """Measured on prompts with responses to other prompts; costs a forward pass of policy and reference on them."""

    measure: Callable[[LogProbs, Ref], Tensor]
    needs_mismatched = True

    def take(self, rows: StepRows) -> Tensor:
        return torch.cat([self.measure(*each).double() for each in rows.mismatched()])


@dataclass(frozen=True, slots=True)
class StepObjective(Generic[Ref, Index]):
    """An objective that is given what was measured over the whole step."""

    measurement: Measurement
    objective: Callable[[LogProbs, Ref, Index, Tensor], Loss]
    """As a plain objective, with the [M, k] measured values last."""

    def given(self, rows: StepRows) -> Callable[[LogProbs, Ref, Index], Loss]:
        """The plain objective of one step."""
        measured = self.measurement.take(rows)

        def objective(policy: LogProbs, reference: Ref, index: Index) -> Loss:
            return self.objective(policy, reference, index, measured.to(policy.token_S.device))

        return objective
