"""One optimizer step: the only place that reduces a loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from trueup.batch.batch import Batch
from trueup.batch.logprobs import LogProbs, Part, Scores
from trueup.errors import NumericsError
from trueup.feedback.records import Origin
from trueup.methods.method import Method
from trueup.models.causal import StreamModel
from trueup.objectives.loss import Loss
from trueup.references.reference import Reference
from trueup.training.finite import check_finite
from trueup.training.optimizer import Optimizer
from trueup.training.whole import Objective, Rows, objective_of


@dataclass
class Means:
    """Sums and counts of metrics over the micro-batches of a step or an evaluation."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, total: float, count: float) -> None:
        """Count `count` values that sum to `total`; nothing is recorded of none."""
        if count:
            self.sums[name] = self.sums.get(name, 0.0) + total
            self.counts[name] = self.counts.get(name, 0.0) + count

    def add_batch(self, loss: Loss, policy: LogProbs | Scores, reference: LogProbs | None) -> None:
        """Record a micro-batch: loss, the objective's metrics, and the log-ratio of every response.

        `kl` is the mean of log pi(y | x) - log pi_ref(y | x) over the batch's responses: an estimate of the KL
        divergence for responses drawn from the policy, and a measure of drift for any others.
        """
        self.add("loss", loss.per_example.detach().double().sum().item(), loss.weight.double().sum().item())
        for name, values in loss.metrics.items():
            self.add(name, values.double().sum().item(), values.numel())
        if reference is not None and isinstance(policy, LogProbs):
            log_ratio_N = policy.sum.detach().double() - reference.sum.double()
            self.add("kl", log_ratio_N.sum().item(), log_ratio_N.numel())

    def means(self) -> dict[str, float]:
        """Every metric's mean."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}


def forward(
    policy: StreamModel,
    reference: Reference,
    objective: Objective,
    batch: Batch[Any],
    step: int,
    parts: Collection[Part] = (),
) -> tuple[Loss, LogProbs | Scores, LogProbs | None]:
    """What the policy says, log-probabilities under the reference, and the loss, all finite.

    Raises:
        NumericsError: a log-probability of the reference or a loss is not finite; the rows are named.
    """
    batch = batch.to(policy.device)
    reference_log_probs = reference.log_probs(batch)
    if reference_log_probs is not None:
        check_finite(reference_log_probs.sum, None, batch, step, "log-probability under the reference")
    outputs = policy.outputs(batch.stream, parts)
    loss = objective(outputs, reference_log_probs, batch.index)
    check_finite(loss.per_example, loss.row, batch, step, "loss")
    return loss, outputs, reference_log_probs


def train_step(
    policy: StreamModel,
    reference: Reference,
    method: Method[Any, Any, Any],
    batches: Sequence[Batch[Any]],
    optimizer: Optimizer,
    *,
    step: int,
    learning_rate: float,
    mismatched: Sequence[Batch[Any]] = (),
    poll: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Sum the micro-batches' gradients, divide once by the whole batch's weight, clip, and step.

    Args:
        batches: the micro-batches; the result does not depend on how the batch was cut.
        mismatched: those of prompts with responses to other prompts, where the method asks for them.
        step: number of this step, for messages.
        learning_rate: of this step.
        poll: called between micro-batches; may raise to give the step up before anything moved.

    Returns:
        Means of the metrics over the whole batch, and `grad_norm` before clipping.

    Raises:
        NumericsError: something is not finite; the parameters have not moved.
    """
    means = Means()
    weight = 0.0
    objective = objective_of(method, Rows(policy, reference, batches, mismatched, step, poll))
    optimizer.zero_grad()
    for batch in batches:
        poll()
        loss, outputs, reference_log_probs = forward(policy, reference, objective, batch, step, method.parts)
        loss.per_example.sum().backward()
        weight += loss.weight.double().sum().item()
        means.add_batch(loss, outputs, reference_log_probs)
    if not weight:
        raise NumericsError(f"step {step}: the batch holds nothing to learn from")
    grad_norm = optimizer.step(divide_by=weight, learning_rate=learning_rate, rows=_names(batches), step=step)
    return {**means.means(), "grad_norm": grad_norm}


@torch.no_grad()
def evaluate(
    policy: StreamModel,
    reference: Reference,
    method: Method[Any, Any, Any],
    batches: Sequence[Batch[Any]],
    step: int,
    *,
    mismatched: Sequence[Batch[Any]] = (),
    poll: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Means of loss and metrics over held-out feedback, all of it taken as one batch, under `eval_` names."""
    means = Means()
    objective = objective_of(method, Rows(policy, reference, batches, mismatched, step, poll))
    for batch in batches:
        poll()
        means.add_batch(*forward(policy, reference, objective, batch, step, method.parts))
    return {f"eval_{name}": value for name, value in means.means().items()}


def _names(batches: Sequence[Batch[Any]]) -> list[str]:
    origins: list[Origin] = [origin for batch in batches for origin in batch.origins if origin is not None]
    return sorted({str(origin) for origin in origins})
