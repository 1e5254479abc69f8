"""What objectives report, by values worked by hand, and an undesirable token next to certainty. Their losses and
gradients are compared with the papers' formulas in `tests/parity`; what DPO and KTO report, with TRL."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.objective_cases import counted, vector

from trueup.batch import rows
from trueup.feedback.records import GradedPairRelation, PairRelation
from trueup.objectives.bradley_terry import bradley_terry
from trueup.objectives.dpo_variants import wpo
from trueup.objectives.ipo import ipo
from trueup.objectives.loss import Loss
from trueup.objectives.opponents import nash_md, xpo
from trueup.objectives.rrhf import rrhf, rrhf_padded
from trueup.objectives.sft import sft
from trueup.objectives.slic_hf import slic_hf
from trueup.objectives.ulma import ulma
from trueup.objectives.unlikelihood import NEAREST, log1mexp, unlikelihood, unlikelihood_ascent


def log_probs(*responses: Sequence[float]) -> rows.LogProbs:
    """Behind prompts of 3 tokens."""
    lengths = torch.tensor([len(row) for row in responses])
    return rows.LogProbs(vector(*(token for row in responses for token in row)), lengths, torch.full_like(lengths, 3))


def pair(probability: float = 1.0) -> rows.Pairs:
    return rows.Pairs(torch.tensor([0]), torch.tensor([1]), vector(probability))


def points(labels: Sequence[float], demonstrations: Sequence[bool] = ()) -> rows.Points:
    return rows.Points(torch.tensor(labels), torch.tensor(demonstrations or [False] * len(labels)))


POLICY, REFERENCE = log_probs([-1, -2], [-5], [-0.5]), log_probs([-2, -2], [-4], [-1])
THUMBS = points([1.0, 0.0, 0.25])
RANKED = rows.Rankings(torch.tensor([1.0, 0.0, 1.0]), torch.zeros(3, dtype=torch.int64), 1)
"""Sums -3, -5 and -0.5; means -1.5, -5 and -0.5. The first is the best, the third as good."""
PAIR = {"logps/chosen": [-3], "logps/rejected": [-5], "rewards/accuracies": [1]}
NEAR = {**PAIR, "drift/chosen": [0.5]}
PLAIN = {**PAIR, "rewards/chosen": [-3], "rewards/rejected": [-5], "rewards/margins": [2]}
POINTS = {"logps/chosen": [-3], "logps/rejected": [-5, -0.5], "logps/demonstrations": []}
ULMA = points([0.0, 0.0, 1.0], [True, False, False])
REPORTED: dict[str, tuple[Loss, list[int], dict[str, list[float]]]] = {
    "sft": (sft(POLICY, None, rows.Demonstrations()), [0, 1, 2], {"logps/demonstrations": [-3, -5, -0.5]}),
    "ipo": (  # log-ratios 1 and -1
        ipo(POLICY, REFERENCE, pair(), beta=0.1),
        [0],
        {**NEAR, "rewards/chosen": [0.1], "rewards/rejected": [-0.1], "rewards/margins": [0.2]},
    ),
    "ipo per token": (
        ipo(POLICY, REFERENCE, pair(), beta=0.1, per_token=True),
        [0],
        {**NEAR, "rewards/chosen": [0.05], "rewards/rejected": [-0.1], "rewards/margins": [0.15]},
    ),
    "slic-hf": (  # 2 apart, where 3 are asked for
        slic_hf(POLICY, None, rows.PairsWithTarget(pair(), torch.tensor([0])), margin=3.0),
        [0],
        {**PLAIN, "loss/calibration": [1], "loss/sft": [3]},
    ),
    "slic-hf with a demonstration": (
        slic_hf(POLICY, None, rows.PairsWithTarget(pair(), torch.tensor([2])), margin=1.0),
        [2],
        {**PLAIN, "loss/calibration": [0], "loss/sft": [0.5]},
    ),
    "rrhf": (  # both better ones are likelier than the worse
        rrhf(POLICY, None, RANKED, rank_weight=2.0),
        [0],
        {"loss/rank": [0], "loss/sft": [3], "rewards/chosen": [-1.5], "rewards/accuracies": [1, 1],
         "logps/chosen": [-3]},
    ),
    "rrhf padded": (  # 3 + 2 tokens: -0.6 against -0.1 of a worse one
        rrhf_padded(
            log_probs([-1, -2], [-0.5]), None, rows.Rankings(vector(1, 0), torch.zeros(2, dtype=torch.int64), 1)
        ),
        [0],
        {"loss/rank": [0.5], "loss/sft": [0.6], "rewards/chosen": [-0.6], "rewards/accuracies": [0],
         "logps/chosen": [-3]},
    ),
    "unlikelihood": (
        unlikelihood(POLICY, None, THUMBS),
        [0, 1, 2],
        {**POINTS, "rewards/chosen": [-3], "rewards/rejected": [-5, -0.5]},
    ),
    "unlikelihood ascent": (
        unlikelihood_ascent(POLICY, None, THUMBS),
        [0, 1, 2],
        {**POINTS, "rewards/chosen": [-3], "rewards/rejected": [-5, -0.5]},
    ),
    "ulma": (
        ulma(POLICY, REFERENCE, ULMA, beta=0.1),
        [0, 1, 2],
        {
            "logps/chosen": [-3, -0.5], "logps/rejected": [-5], "logps/demonstrations": [-3],
            "rewards/chosen": [0.1, 0.05], "rewards/rejected": [-0.1], "drift/chosen": [0.5, 0.5],
        },
    ),
    "bradley terry": (
        bradley_terry(rows.Scores(vector(1.5, 0.5)), None, rows.GradedPairs(pair(), vector(0.0))),
        [0],
        {
            "rewards/chosen": [1.5], "rewards/rejected": [0.5], "rewards/margins": [1], "rewards/accuracies": [1],
            "rewards/mean": [1.5, 0.5], "rewards/mean_square": [2.25, 0.25],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "rows", "expected"), REPORTED.values(), ids=REPORTED)
def test_what_is_reported(loss: Loss, rows: list[int], expected: dict[str, Any]) -> None:
    """Values for each example, and the row that it is named by."""
    assert loss.row.tolist() == rows
    shown = {name: counted(values).tolist() for name, values in loss.metrics.items()}
    assert shown == {name: pytest.approx(values) for name, values in expected.items()}


def soft(margin: float) -> float:
    """-log sigmoid."""
    return math.log1p(math.exp(-margin))


TURNED = rows.Pairs(torch.tensor([1]), torch.tensor([0]), vector(1.0))
BY_HAND: dict[str, tuple[Loss, float]] = {
    # log-ratios 1 and -1: what tests/parity has no formula of
    "xpo": (xpo(POLICY, REFERENCE, pair(), beta=0.1, alpha=0.01), soft(0.2) - 0.01 * 5),
    "nash-md": (nash_md(POLICY, REFERENCE, TURNED, beta=0.1), 0.5 * -3 + 0.05 * 1**2),
}


@pytest.mark.parametrize(("loss", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_worked_by_hand(loss: Loss, expected: float) -> None:
    assert loss.per_example.tolist() == pytest.approx([expected], rel=1e-9)


def test_a_weight_of_more_than_one_counts_as_one() -> None:
    policy = replace(POLICY, collision_S=vector(-9, -9, -9, 0))
    assert wpo(policy, REFERENCE, pair(), beta=0.1).per_example.tolist() == pytest.approx([soft(0.2)])


def exact(log_prob: float) -> float:
    return math.log(-math.expm1(log_prob)) if log_prob > -0.5 else math.log1p(-math.exp(log_prob))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log1mexp_keeps_its_digits(dtype: torch.dtype) -> None:
    """And its slope; from a probability of e^-80 to within 1e-6 of 1, on both sides of where the formula changes."""
    given = -torch.logspace(math.log10(2 * NEAREST), math.log10(80), 400, dtype=torch.float64).to(dtype)
    given = torch.cat([given, torch.tensor([-0.693, -0.694, -NEAREST], dtype=dtype)])
    expected = torch.tensor([exact(value) for value in given.tolist()], dtype=torch.float64)
    found = log1mexp(given.requires_grad_())
    digits = dict(rtol=4 * torch.finfo(dtype).eps, atol=0.0)
    torch.testing.assert_close(found.double(), expected, **digits)
    (slope,) = torch.autograd.grad(0.013 * (given - found).sum(), given)  # of the log odds: 1 / (1 - p)
    expected = torch.tensor([-0.013 / math.expm1(value) for value in given.tolist()], dtype=torch.float64)
    torch.testing.assert_close(slope.double(), expected, **digits)


def test_log1mexp_goes_on_along_its_tangent() -> None:
    """-20 ln 2 at the last point, one less at a probability of 1, and finite where rounding exceeds 1."""
    given = torch.tensor([-NEAREST, 0.0, 1e-7], dtype=torch.float64, requires_grad=True)
    found = log1mexp(given)
    (slope,) = torch.autograd.grad(found.sum(), given)
    assert found.tolist() == pytest.approx([-20 * math.log(2), -20 * math.log(2) - 1, -14.967801], abs=1e-5)
    assert slope.tolist() == pytest.approx([-1 / math.expm1(NEAREST)] * 3)
    inside = torch.linspace(-3 * NEAREST, NEAREST, 50, dtype=torch.float64)
    assert (log1mexp(inside).diff() < 0).all()


@pytest.mark.parametrize("ahead", [0.0, 5.0, 13.0, 15.0, 20.0, 200.0])
def test_a_certain_token_pushes_its_logit_no_harder_than_one(ahead: float) -> None:
    """Through a softmax in float32, as in a model; the push is the probability until the tangent begins."""
    logits = torch.tensor([[ahead, 0.0, 0.0]], requires_grad=True)
    policy = rows.LogProbs(logits.log_softmax(-1)[:, 0], torch.tensor([1]))
    loss = unlikelihood(policy, None, points([0.0])).per_example
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all() and loss.item() > 0
    probability = math.exp(ahead) / (math.exp(ahead) + 2)
    if 1 - probability > 2 * NEAREST:
        assert grad[0, 0].item() == pytest.approx(probability, rel=0.05)  # 1 - p of float32 near 1
    assert 0 <= grad[0, 0].item() <= 1.05


def test_a_pair_is_right_only_where_its_scores_say_so() -> None:
    """Wrong and equal scores count alike."""
    pairs = rows.Pairs(torch.tensor([0, 1, 2]), torch.tensor([1, 0, 1]), torch.ones(3))
    loss = bradley_terry(rows.Scores(vector(1.0, 0.5, 0.5)), None, rows.GradedPairs(pairs, torch.zeros(3)))
    assert loss.metrics["rewards/accuracies"].tolist() == [1.0, 0.0, 0.0]


def test_bradley_terry_with_everything() -> None:
    """d = 1, m = 0.4 + 0.3 * 2 = 1, p = 0.75: 0.75 ln 2 + 0.25 ln(1 + e^2) + 0.01 * 2^2, which is
    0.519860 + 0.531732 + 0.04 = 1.091592."""
    loss = bradley_terry(
        rows.Scores(vector(1.5, 0.5)), None, rows.GradedPairs(pair(0.75), vector(2.0)), margin=0.4,
        margin_per_score=0.3, centring=0.01,
    )  # fmt: skip
    assert loss.per_example.tolist() == pytest.approx([1.091592], abs=1e-6)


def test_collate_numbers_rows_and_keeps_gaps() -> None:
    relations = (
        GradedPairRelation(PairRelation(((1, 0, 1.0),)), (2.5,)),
        GradedPairRelation(PairRelation(((0, 2, 0.7), (0, 1, 1.0))), (0.0, 1.0)),
    )
    index = rows.GradedPairs.collate(relations, [0, 2])
    assert index.pairs.chosen_P.tolist() == [1, 2, 2]
    assert index.pairs.rejected_P.tolist() == [0, 4, 3]
    assert index.gap_P.tolist() == [2.5, 0.0, 1.0]
