"""What an objective returns, and what objectives of one kind report and measure alike.
The loss of some depends on the whole step, not on one example at a time. KTO measures every response against an
estimate over the batch; the authors of ULMA divide by how many of each class a batch holds. Micro-batches are computed
one by one, so such a number is measured first, over all of the step's micro-batches, and then given to the objective
for each of them: the result does not depend on the cut.
Shape suffixes: N rows (responses), P pairs, S scored tokens of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch

from trueup.batch.rows import LogProbs, Pairs, Points, Rollouts

Ref = TypeVar("Ref")
Index = TypeVar("Index")
LIMIT = 20.0
"""Nats a token beyond which a ratio is not computed: it has long been clipped, and its exponential would overflow."""
REMEMBERED = "measured"  # name of what a measurement remembers between steps, in a checkpoint too


@dataclass(frozen=True, slots=True)
class Selected:
    """Values of which only some count: how many do is for the device to know."""

    values: torch.Tensor
    where: torch.Tensor  # of the same shape, True where a value counts


def total_of(values: torch.Tensor | Selected) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum and number of values, both float64 without dimensions."""
    if isinstance(values, Selected):
        chosen = torch.where(values.where, values.values.double(), 0.0)
        return chosen.sum(), values.where.double().sum()
    total = values.double().sum()
    return total, torch.full_like(total, values.numel())


@dataclass(frozen=True, slots=True)
class Loss:
    """Unreduced: only the training step sums, over the whole batch, and divides.
    step loss = sum(per_example) / sum(weight), both over every micro-batch and every rank, so that the result
    does not depend on how a batch was cut."""

    per_example: torch.Tensor  # [E] loss of each example (pair, ranking, response), differentiable
    weight: torch.Tensor
    """[E] how much each counts in the denominator: 1 for most objectives, its tokens for a per-token mean."""
    row: torch.Tensor  # [E] int64, a row of each example, so that a bad loss can name where it came from
    metrics: Mapping[str, torch.Tensor | Selected] = field(default_factory=dict)
    """Name -> [any number of] detached values, averaged over the whole batch; one of no values is left out."""

    @classmethod
    def of_rows(
        cls, loss_N: torch.Tensor, metrics: Mapping[str, torch.Tensor | Selected], *,
        weight_N: torch.Tensor | None = None,
    ) -> Loss:  # fmt: skip
        """One example a row, each of weight 1 where none are given."""
        weight_N = torch.ones_like(loss_N) if weight_N is None else weight_N
        return cls(loss_N, weight_N, torch.arange(loss_N.shape[0], device=loss_N.device), metrics)

    @classmethod
    def of_pairs(cls, loss_P: torch.Tensor, pairs: Pairs, metrics: Mapping[str, torch.Tensor | Selected]) -> Loss:
        """One example a pair, each of weight 1 and named by its chosen response."""
        return cls(loss_P, torch.ones_like(loss_P), pairs.chosen_P, metrics)


def over_orders(
    pairs: Pairs, value_N: torch.Tensor, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """[P] p loss(v_w, v_l) + (1 - p) loss(v_l, v_w): the expectation over the order, p that of its being right.
    `value_N` is what the loss reads of each response, the better one first."""
    chosen_P, rejected_P = value_N[pairs.chosen_P], value_N[pairs.rejected_P]
    p_P = pairs.probability_P.to(value_N.dtype)
    return p_P * loss(chosen_P, rejected_P) + (1 - p_P) * loss(rejected_P, chosen_P)


def reward_metrics(reward_N: torch.Tensor, pairs: Pairs) -> dict[str, torch.Tensor]:
    """Rewards [N], given or implicit, as detached [P] values of pairs, under the names people chart.
    `rewards/accuracies` counts a zero margin as wrong: a policy that equals its reference has learned nothing yet."""
    chosen_P, rejected_P = reward_N.detach()[pairs.chosen_P], reward_N.detach()[pairs.rejected_P]
    margin_P = chosen_P - rejected_P
    return {
        "rewards/chosen": chosen_P,
        "rewards/rejected": rejected_P,
        "rewards/margins": margin_P,
        "rewards/accuracies": (margin_P > 0).to(margin_P.dtype),
    }


def drift(policy: LogProbs, reference: LogProbs) -> torch.Tensor:
    """[N] log pi(y | x) - log pi_ref(y | x) a token, in nats; detached."""
    return (policy.sum.double() - reference.sum.double()).detach() / policy.length_N


def pair_metrics(
    policy: LogProbs, reward_N: torch.Tensor, pairs: Pairs, reference: LogProbs | None = None
) -> dict[str, torch.Tensor]:
    """As `reward_metrics`, of the objective's implicit rewards, and the log-probabilities of N responses in P pairs.
    With a reference also `drift/chosen`, how far chosen responses are from it."""
    log_prob_N = policy.sum.detach()
    away = {} if reference is None else {"drift/chosen": drift(policy, reference)[pairs.chosen_P]}
    return {
        **reward_metrics(reward_N, pairs),
        **away,
        "logps/chosen": log_prob_N[pairs.chosen_P],
        "logps/rejected": log_prob_N[pairs.rejected_P],
    }


def point_metrics(
    policy: LogProbs, reward_N: torch.Tensor, points: Points, reference: LogProbs | None = None
) -> dict[str, torch.Tensor | Selected]:
    """Implicit rewards [N] and log-probabilities, under the names people chart; detached.
    `chosen` are demonstrations and labels above 1/2, `rejected` the rest; `drift/chosen` needs a reference."""
    log_prob_N = policy.sum.detach()
    good_N = points.demonstration_N | (points.label_N > 0.5)
    reward_N = reward_N.detach()
    away = {} if reference is None else {"drift/chosen": Selected(drift(policy, reference), good_N)}
    return {
        **away,
        "logps/chosen": Selected(log_prob_N, good_N),
        "logps/rejected": Selected(log_prob_N, ~good_N),
        "logps/demonstrations": Selected(log_prob_N, points.demonstration_N),
        "rewards/chosen": Selected(reward_N, good_N),
        "rewards/rejected": Selected(reward_N, ~good_N),
    }


def log_ratios_to_old(policy: LogProbs, rollouts: Rollouts) -> torch.Tensor:
    """[S] log pi - log pi_old of each token, in nats, within plus and minus 20; float32 at least.
    pi_old is the policy that wrote the responses."""
    token_S = policy.token_S.to(torch.promote_types(policy.token_S.dtype, torch.float32))
    return (token_S - rollouts.old_log_prob_S.to(token_S.dtype)).clamp(-LIMIT, LIMIT)


def approximate_kl(log_ratio_S: torch.Tensor) -> torch.Tensor:
    """[S] ratio - 1 - log ratio, at least 0, whose mean over tokens that the old policy wrote is KL(old || new).
    Schulman, 2020, http://joschu.net/blog/kl-approx.html (k3)."""
    change_S = log_ratio_S.detach()
    return change_S.expm1() - change_S


class StepRows(Protocol):
    """The rows of all micro-batches of a step, without gradients and without dropout."""

    @property
    def memory(self) -> MutableMapping[str, torch.Tensor]:
        """What the run remembers of the steps before."""

    @property
    def learns(self) -> bool:
        """Whether it is a step of the run: of held-out feedback nothing is remembered."""

    def indexes(self) -> Iterable[Any]:
        """The index of each micro-batch; nothing is computed."""

    def own(self) -> Iterable[tuple[LogProbs, Any, Any]]:
        """Log-probabilities under policy and reference, and the index, of each micro-batch."""

    def mismatched(self) -> Iterable[tuple[LogProbs, Any]]:
        """Log-probabilities under policy and reference of responses that answer another prompt."""

    def joined(self, lines: Sequence[torch.Tensor]) -> torch.Tensor:
        """What is measured of each micro-batch as lines of one tensor, those of other processes included."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured over a step before its loss.
    Measured on the index alone it costs nothing; on the step's own responses a forward pass of the policy, and on
    mismatched ones one of policy and reference."""

    values: Callable[[StepRows], Iterable[torch.Tensor]]  # [m, k] of each micro-batch: one line for each thing measured
    needs_mismatched: bool = False  # whether the source has to pair prompts with responses to other prompts
    remembers: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor] | None = None
    """What a run knows after a step, of what was measured and what it knew before; the objective is given that."""

    def take(self, rows: StepRows) -> torch.Tensor:
        """[M, k] float64, in the order of the micro-batches; of several processes, one after the other.
        Where something is remembered, that; held-out feedback adds nothing to it."""
        known = rows.memory.get(REMEMBERED) if self.remembers else None
        if known is not None and not rows.learns:
            return known
        measured = rows.joined([values.double() for values in self.values(rows)])
        if self.remembers is None:
            return measured
        rows.memory[REMEMBERED] = self.remembers(measured, None if known is None else known.to(measured.device))
        return rows.memory[REMEMBERED]


@dataclass(frozen=True, slots=True)
class StepObjective(Generic[Ref, Index]):
    """An objective that is given what was measured over the whole step."""

    measurement: Measurement
    objective: Callable[[LogProbs, Ref, Index, torch.Tensor], Loss]
    """As a plain objective, with the [M, k] measured values last."""

    def given(self, rows: StepRows) -> Callable[[LogProbs, Ref, Index], Loss]:
        measured = self.measurement.take(rows)

        def objective(policy: LogProbs, reference: Ref, index: Index) -> Loss:
            return self.objective(policy, reference, index, measured.to(policy.token_S.device))

        return objective
