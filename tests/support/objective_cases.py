"""The objectives that are held to the laws of `objectives/test_laws.py`, with groups for each. A new objective adds
one line to CASES."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trueup.batch.rows import (
    Demonstrations,
    GradedPairs,
    LogProbs,
    Pairs,
    PairsWithTarget,
    Points,
    Rankings,
    RolloutRelation,
    RolloutRow,
    Rollouts,
    Scores,
    Weighted,
)
from trueup.feedback.records import (
    DemonstratedPairRelation,
    DemonstrationRelation,
    GradedPairRelation,
    PairRelation,
    PointRelation,
    RankRelation,
    WeightRelation,
)
from trueup.objectives import dpo_variants
from trueup.objectives.bco import bco
from trueup.objectives.bradley_terry import bradley_terry
from trueup.objectives.dpo import dpo, robust_dpo
from trueup.objectives.grpo import grpo
from trueup.objectives.ipo import ipo
from trueup.objectives.kto import kto
from trueup.objectives.loss import Loss, Selected
from trueup.objectives.opponents import nash_md, xpo
from trueup.objectives.paired_kto import paired_kto
from trueup.objectives.pointwise_dpo import pointwise_dpo
from trueup.objectives.ppo import ppo
from trueup.objectives.reference_free import cpo, orpo, simpo
from trueup.objectives.reinforce import reinforce
from trueup.objectives.rloo import rloo
from trueup.objectives.rrhf import pro, rrhf, rrhf_padded
from trueup.objectives.sft import beside_sft, sft, weighted_sft
from trueup.objectives.slic import slic
from trueup.objectives.slic_hf import slic_hf
from trueup.objectives.ulma import ulma, ulma_group_means
from trueup.objectives.unlikelihood import unlikelihood, unlikelihood_ascent


@dataclass(frozen=True)
class Group:
    """One group: tokens of each row, and how the rows relate."""

    lengths: tuple[int, ...]
    relation: Any
    good: tuple[int, ...] = ()  # rows that a better policy makes more likely
    bad: tuple[int, ...] = ()  # rows that it makes less likely, once they are the likeliest of their group


def as_they_are(log_probs: LogProbs) -> LogProbs:
    return log_probs


def as_scores(log_probs: LogProbs) -> Scores:
    """What a reward model would say: a number a response, which a better one raises where the laws do."""
    return Scores(log_probs.sum)


def as_valued(log_probs: LogProbs) -> LogProbs:
    """With what a value head would say: about the same of every token, and a little that depends on the policy."""
    token_S = log_probs.token_S.to(torch.promote_types(log_probs.token_S.dtype, torch.float32))
    return replace(log_probs, value_S=0.25 + 0.001 * token_S)


def as_explored(log_probs: LogProbs) -> LogProbs:
    """With entropies, too."""
    valued = as_valued(log_probs)
    assert valued.value_S is not None
    return replace(valued, entropy_S=1.5 - 2 * valued.value_S)


def as_concentrated(log_probs: LogProbs) -> LogProbs:
    """With distributions that make every weight the same: no gradient flows through one."""
    token_S = log_probs.token_S.to(torch.promote_types(log_probs.token_S.dtype, torch.float32))
    return replace(log_probs, collision_S=token_S + 0.2)


@dataclass(frozen=True)
class Case:
    """An objective and groups for it; the last of them holds a class that is empty."""

    name: str
    objective: Callable[[Any, Any, Any], Loss]
    collate: Callable[..., Any]
    groups: tuple[Group, ...]
    needs_reference: bool = True
    reads: Callable[[LogProbs], Any] = as_they_are  # what the objective reads of the policy

    def loss(self, policy: "Rows", reference: "Rows | None", groups: Sequence[Group]) -> Loss:
        first_rows, row = [], 0
        for group in groups:
            first_rows.append(row)
            row += len(group.lengths)
        index = self.collate([group.relation for group in groups], first_rows)
        given = flat(reference) if reference is not None and self.needs_reference else None
        return self.objective(self.reads(flat(policy)), given, index)


PROMPT = 5  # tokens of every prompt
Rows = list[list[Tensor]]  # token log-probabilities of each row of each group


def flat(rows: Rows) -> LogProbs:
    together = [row for group in rows for row in group]
    lengths = torch.tensor([len(row) for row in together])
    return LogProbs(torch.cat(together), lengths, torch.full_like(lengths, PROMPT))


def random_rows(groups: Sequence[Group], seed: int, dtype: torch.dtype = torch.float64) -> Rows:
    generator = torch.Generator().manual_seed(seed)

    def row(length: int) -> Tensor:
        drawn = -3 * torch.rand(length, generator=generator, dtype=torch.float64)
        return drawn.to(dtype).requires_grad_()

    return [[row(length) for length in group.lengths] for group in groups]


def tokens(rows: Rows) -> list[Tensor]:
    return [row for group in rows for row in group]


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def counted(values: Tensor | Selected) -> Tensor:
    """The values of a metric that count."""
    return values.values[values.where] if isinstance(values, Selected) else values


def group_of(loss: Loss, groups: Sequence[Group]) -> list[int]:
    """The group of each example, by the row that the loss names."""
    owner = [number for number, group in enumerate(groups) for _ in group.lengths]
    return [owner[row] for row in loss.row.tolist()]


PAIRS = (
    Group((3, 2), PairRelation(((0, 1, 1.0),)), (0,), (1,)),
    Group((1, 4, 2), PairRelation(((2, 0, 1.0), (2, 1, 1.0), (0, 1, 1.0))), (2,), (1,)),
    Group((2, 2), PairRelation(((1, 0, 1.0),)), (1,), (0,)),
    Group((2, 3), PairRelation(())),
)
UNSURE = (
    Group((3, 2), PairRelation(((0, 1, 0.75),)), (0,), (1,)),
    Group((1, 4, 2), PairRelation(((2, 0, 0.6), (0, 1, 0.9))), (2,), (1,)),
    Group((2, 3), PairRelation(())),
)
LOWERED = (*(replace(group, good=()) for group in (*PAIRS[:3], *PAIRS[:3])), PAIRS[3])
"""For a loss that moves chosen responses neither way at first."""
DEMONSTRATED = (
    Group((3, 2, 2), DemonstratedPairRelation(PairRelation(((0, 1, 1.0),)), 2), (0, 2), (1,)),
    Group((1, 4), DemonstratedPairRelation(PairRelation(((1, 0, 0.8),)), 1), (1,), (0,)),
    Group((2, 2, 1), DemonstratedPairRelation(PairRelation(((0, 1, 1.0), (0, 2, 1.0))), 0), (0,), (1,)),
    Group((2, 3), DemonstratedPairRelation(PairRelation(()), 0)),
)
GRADED_PAIRS = (
    Group((3, 2), GradedPairRelation(PairRelation(((0, 1, 0.75),)), (0.0,)), (0,), (1,)),
    Group(
        (1, 4, 2),
        GradedPairRelation(PairRelation(((2, 0, 1.0), (2, 1, 1.0), (0, 1, 0.9))), (1.0, 3.0, 2.0)),
        (2,),
        (1,),
    ),
    Group((2, 2), GradedPairRelation(PairRelation(((1, 0, 1.0),)), (0.5,)), (1,), (0,)),
    Group((2, 3), GradedPairRelation(PairRelation(()), ())),
)
RANKINGS = (
    Group((3, 2), RankRelation((2.0, -1.0)), (0,), (1,)),
    Group((1, 4, 2, 3), RankRelation((0.1, 0.7, 0.7, -5.0)), (1,), (3,)),
    Group((2, 3), RankRelation((1.0, 1.0)), (0,)),
)
BINARY = (
    Group((3, 2), PointRelation((1.0, 0.0), (False, False)), (0,), (1,)),
    Group((1, 4), PointRelation((1.0, 0.25), (True, False)), (0,)),
    Group((3,), PointRelation((1.0,), (True,)), (0,)),
    Group((2, 2), PointRelation((0.0, 0.0), (False, False)), (), (0, 1)),
)
GRADED = (
    Group((3, 2), PointRelation((0.8, 0.3), (False, False)), (0, 1)),
    Group((1, 4), PointRelation((1.0, 0.0), (True, False)), (0,)),
    Group((3,), PointRelation((1.0,), (True,)), (0,)),
    Group((2, 2), PointRelation((0.5, 1.0), (False, False)), (0, 1)),
)
IMITATE = (
    Group((3, 2), DemonstrationRelation(), (0, 1)),
    Group((1,), DemonstrationRelation(), (0,)),
    Group((4, 2, 2), DemonstrationRelation(), (0, 1, 2)),
)
WEIGHTED = (
    Group((3, 2), WeightRelation((0.5, 2.0)), (0, 1)),
    Group((1,), WeightRelation((1.0,)), (0,)),
    Group((4, 2, 2), WeightRelation((0.1, 20.0, 3.0)), (0, 1, 2)),
)


OPPOSED = (
    Group((3, 2), PairRelation(((0, 1, 0.9),)), (0,)), Group((2, 4), PairRelation(((1, 0, 1.0),)), (), (0,)),
    Group((1, 2), PairRelation(((1, 0, 0.8),)), (), (0,)), Group((4, 3), PairRelation(((0, 1, 1.0),)), (0,)),
)  # fmt: skip
"""Pairs whose earlier response alone is learned from."""


def rollout(length: int, old: float, advantage: float) -> RolloutRow:
    """A response whose tokens are all alike but in what their values are to be."""
    whole = np.ones(length, np.float32)
    target = np.linspace(-1.0, 1.5, length, dtype=np.float32)
    return RolloutRow(old * whole, advantage * whole, target, 0.3 * whole)


def shortened(group: Group, length: int) -> Group:
    """The group with responses of so many tokens."""
    relation = group.relation
    if isinstance(relation, RolloutRelation):
        parts = [[getattr(row, field.name)[:length] for field in fields(row)] for row in relation.rows]
        relation = RolloutRelation(tuple(RolloutRow(*part) for part in parts))
    return replace(group, lengths=(length,) * len(group.lengths), relation=relation)


# The laws begin at -0.5 for rows that get less likely and at -1 for the others: where nothing has moved yet.
ROLLOUTS = (
    Group((3, 2), RolloutRelation((rollout(3, -1.0, 2.0), rollout(2, -0.5, -0.7))), (0,), (1,)),
    Group((1,), RolloutRelation((rollout(1, -1.0, 0.3),)), (0,)),
    Group((4, 2, 2), RolloutRelation((rollout(4, -0.5, -1.0), rollout(2, -1.0, 0.9), rollout(2, -0.5, -3.0))),
        (1,), (0, 2)),
)  # fmt: skip
LABELS = torch.tensor([[1.0, 0], [0, 0], [1, 1], [1, 0], [0, 0], [0, 0], [0, 0]], dtype=torch.float64)
"""What was measured over the step: here always the same, so that an objective is held to the laws of the others."""
FAR = torch.tensor([[0.3], [1.1], [-0.2]], dtype=torch.float64)
OF_UNSURE: tuple[Any, ...] = (
    dpo_variants.f_dpo, dpo_variants.ld_dpo, dpo_variants.exo, dpo_variants.apo_zero,
)  # fmt: skip
OF_UNSURE += (dpo_variants.nca, dpo_variants.sppo, xpo)
CASES = [
    Case("sft per token", sft, Demonstrations.collate, IMITATE, needs_reference=False),
    Case("sft per response", partial(sft, per_token=False), Demonstrations.collate, IMITATE, False),
    *(Case(one.__name__, one, Pairs.collate, PAIRS) for one in (dpo, ipo, slic)),
    *(Case(one.__name__, one, Pairs.collate, UNSURE) for one in OF_UNSURE),
    *(Case(one.__name__, one, Pairs.collate, UNSURE, needs_reference=False) for one in (simpo, cpo, orpo)),
    Case("dpo unsure", partial(dpo, beta=0.5), Pairs.collate, UNSURE),
    Case("dpo smoothed", partial(dpo, label_smoothing=0.2), Pairs.collate, PAIRS),
    Case("robust dpo", partial(robust_dpo, label_smoothing=0.2), Pairs.collate, UNSURE),
    Case("dpo per token", partial(dpo, per_token=True), Pairs.collate, PAIRS),
    Case("dpo beside sft", partial(beside_sft, dpo, 0.5), Pairs.collate, UNSURE),
    Case("f-dpo forward", partial(dpo_variants.f_dpo, divergence="forward-kl"), Pairs.collate, PAIRS),
    Case("f-dpo alpha", partial(dpo_variants.f_dpo, divergence="alpha", alpha=0.3), Pairs.collate, PAIRS),
    Case("dpo-positive", dpo_variants.dpo_positive, Pairs.collate, PAIRS),
    Case("wpo", dpo_variants.wpo, Pairs.collate, UNSURE, reads=as_concentrated),
    Case("apo-down", dpo_variants.apo_down, Pairs.collate, LOWERED),
    Case("nash-md", nash_md, Pairs.collate, OPPOSED),
    Case("ipo per token unsure", partial(ipo, beta=0.5, per_token=True), Pairs.collate, UNSURE),
    Case("slic unsure", partial(slic, beta=0.01), Pairs.collate, UNSURE),
    Case("slic-hf", slic_hf, PairsWithTarget.collate_chosen, PAIRS, needs_reference=False),
    Case("slic-hf demonstrated", partial(slic_hf, margin=3.0, regularization=0.5), PairsWithTarget.collate,
        DEMONSTRATED, needs_reference=False),
    Case("rrhf", rrhf, Rankings.collate, RANKINGS, needs_reference=False),
    Case("rrhf padded", rrhf_padded, Rankings.collate, RANKINGS, needs_reference=False),
    Case("rrhf weighted", partial(rrhf, rank_weight=2.0, sft_weight=0.1), Rankings.collate, RANKINGS, False),
    Case("pro", pro, Rankings.collate, RANKINGS, needs_reference=False),
    Case("unlikelihood", unlikelihood, Points.collate, BINARY, needs_reference=False),
    Case("unlikelihood ascent", unlikelihood_ascent, Points.collate, BINARY, needs_reference=False),
    Case("ulma binary", ulma, Points.collate, BINARY),
    Case("ulma continuous", partial(ulma, beta=0.2, continuous=True), Points.collate, GRADED),
    Case("ulma per token", partial(ulma, per_token=True, log_z=0.3), Points.collate, BINARY),
    Case("ulma group means", partial(ulma_group_means, labels_M=LABELS), Points.collate, BINARY),
    Case("ulma group means continuous",
        partial(ulma_group_means, labels_M=LABELS, continuous=True, per_token=False), Points.collate, GRADED),
    Case("pointwise dpo", partial(pointwise_dpo, beta=0.5), Points.collate, BINARY),
    Case("pointwise dpo continuous", partial(pointwise_dpo, continuous=True), Points.collate, GRADED),
    Case("pointwise dpo per token", partial(pointwise_dpo, per_token=True, log_z=-0.2), Points.collate,
        BINARY),
    Case("bco", partial(bco, seen_2=FAR[:2, 0]), Points.collate, BINARY),
    Case("bco without a shift", partial(bco, beta=0.5), Points.collate, BINARY),
    Case("kto", partial(kto, mismatched_M=FAR), Points.collate, BINARY),
    Case(
        "kto weighted below its reference",
        partial(kto, mismatched_M=-FAR, beta=0.5, desirable_weight=1.3, undesirable_weight=0.7),
        Points.collate,
        BINARY,
    ),
    Case("ppo", ppo, Rollouts.collate, ROLLOUTS, False, as_valued),
    Case("ppo that explores", partial(ppo, entropy_coef=0.1), Rollouts.collate, ROLLOUTS, False, as_explored),
    Case("ppo that trusts less", partial(ppo, clip=0.15, value_clip=0.1, value_weight=0.1), Rollouts.collate,
        ROLLOUTS, False, as_valued),
    Case("grpo", grpo, Rollouts.collate, ROLLOUTS),
    Case(
        "grpo of sequences",
        # Bounds so wide that no response is clipped, whose gradient would rightly be 0.
        partial(grpo, kl_coef=0.0, clip=0.99, clip_high=99.0, sequence_ratio=True, average_over="tokens"),
        Rollouts.collate,
        ROLLOUTS,
        needs_reference=False,
    ),
    Case("grpo by a constant", partial(grpo, average_over="constant"), Rollouts.collate, ROLLOUTS),
    Case("reinforce", reinforce, Rollouts.collate, ROLLOUTS, False, as_valued),
    Case("rloo", rloo, Rollouts.collate, ROLLOUTS, needs_reference=False),
    # With means below 0, which are clamped: what flows through them has a test of its own.
    Case("paired kto", partial(paired_kto, measured_M=-torch.ones(3, 2)), Pairs.collate, PAIRS),
    Case("bradley terry", bradley_terry, GradedPairs.collate, GRADED_PAIRS, False, as_scores),
    Case(
        "bradley terry with margins and centring",
        partial(bradley_terry, margin=0.5, margin_per_score=0.3, centring=0.01),
        GradedPairs.collate,
        GRADED_PAIRS,
        needs_reference=False,
        reads=as_scores,
    ),
    Case("weighted sft", partial(weighted_sft, weights_M=FAR), Weighted.collate, WEIGHTED, False),
    Case("weighted sft per response", partial(weighted_sft, weights_M=FAR, per_token=False), Weighted.collate,
        WEIGHTED, False),
]  # fmt: skip
every_objective = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
