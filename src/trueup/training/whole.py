"""What an objective measures over a whole step before the loss of any part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trueup.batch.batch import Batch
from trueup.batch.logprobs import LogProbs
from trueup.methods.method import Method
from trueup.models.causal import StreamModel
from trueup.objectives.loss import Loss
from trueup.objectives.step_objective import StepObjective
from trueup.references.reference import Reference
from trueup.training.finite import check_finite

Objective = Callable[[Any, Any, Any], Loss]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of all micro-batches of a step; computed only where an objective asks for them.

    Args:
        step: number of the step, for messages.
        poll: called before every forward pass; may raise to stop.
    """

    policy: StreamModel
    reference: Reference
    batches: Sequence[Batch[Any]]
    mismatched_batches: Sequence[Batch[Any]]
    step: int
    poll: Callable[[], None]

    def indexes(self) -> Iterator[Any]:
        for batch in self.batches:
            yield batch.index.to(self.policy.device)

    def own(self) -> Iterator[tuple[LogProbs, LogProbs | None, Any]]:
        for batch in self.batches:
            yield (*self._both(batch), batch.index.to(self.policy.device))

    def mismatched(self) -> Iterator[tuple[LogProbs, LogProbs | None]]:
        for batch in self.mismatched_batches:
            yield self._both(batch)

    @torch.no_grad()
    def _both(self, batch: Batch[Any]) -> tuple[LogProbs, LogProbs | None]:
        self.poll()
        batch = batch.to(self.policy.device)
        with self.policy.without_dropout():
            log_probs = self.policy.outputs(batch.stream)
        assert isinstance(log_probs, LogProbs)
        reference = self.reference.log_probs(batch)
        # Here, as what is measured goes into the loss of every row, of other micro-batches as well.
        check_finite(log_probs.sum, None, batch, self.step, "log-probability")
        if reference is not None:
            check_finite(reference.sum, None, batch, self.step, "log-probability under the reference")
        return log_probs, reference


def objective_of(method: Method[Any, Any, Any], rows: Rows) -> Objective:
    """The method's objective for one step, with what it measures over the step already in it."""
    objective = method.objective
    return objective.given(rows) if isinstance(objective, StepObjective) else objective


def needs_mismatched(method: Method[Any, Any, Any]) -> bool:
    """Whether a method measures something on prompts with responses to other prompts."""
    return isinstance(method.objective, StepObjective) and method.objective.measurement.needs_mismatched
