"""The loss of a reward model: values worked by hand, what moves it and what does not."""

import pytest
import torch

from trueup.batch.index import GradedPairs, Pairs
from trueup.batch.logprobs import Scores
from trueup.feedback.records import GradedPairRelation, PairRelation
from trueup.objectives.bradley_terry import bradley_terry


def scores(*values: float) -> Scores:
    return Scores(torch.tensor(values, dtype=torch.float64))


def pair(probability: float = 1.0, gap: float = 0.0) -> GradedPairs:
    pairs = Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([probability], dtype=torch.float64))
    return GradedPairs(pairs, torch.tensor([gap], dtype=torch.float64))


def test_by_hand() -> None:
    """Scores 1.5 and 0.5 are 1 apart: ln(1 + exp(-1)) = 0.313262."""
    loss = bradley_terry(scores(1.5, 0.5), None, pair())
    assert loss.per_example.tolist() == pytest.approx([0.313262], abs=1e-6)
    assert loss.weight.tolist() == [1.0]
    assert {name: values.tolist() for name, values in loss.metrics.items()} == {
        "rewards/chosen": [1.5],
        "rewards/rejected": [0.5],
        "rewards/margins": [1.0],
        "rewards/accuracies": [1.0],
        "rewards/mean": [1.5, 0.5],
        "rewards/mean_square": [2.25, 0.25],
    }


def test_a_pair_is_right_only_where_its_scores_say_so() -> None:
    """Wrong and equal scores count alike."""
    pairs = Pairs(torch.tensor([0, 1, 2]), torch.tensor([1, 0, 1]), torch.ones(3))
    loss = bradley_terry(scores(1.0, 0.5, 0.5), None, GradedPairs(pairs, torch.zeros(3)))
    assert loss.metrics["rewards/accuracies"].tolist() == [1.0, 0.0, 0.0]


def test_by_hand_with_everything() -> None:
    """d = 1, m = 0.4 + 0.3 * 2 = 1, p = 0.75: 0.75 ln 2 + 0.25 ln(1 + e^2) + 0.01 * 2^2.

    = 0.519860 + 0.531732 + 0.04 = 1.091592.
    """
    loss = bradley_terry(
        scores(1.5, 0.5), None, pair(0.75, 2.0), margin=0.4, margin_per_score=0.3, centring=0.01
    )
    assert loss.per_example.tolist() == pytest.approx([1.091592], abs=1e-6)


def test_a_pair_may_be_told_the_other_way_round() -> None:
    """With the rest of its probability: the margin is that of whichever order is right."""
    settings = {"margin": 0.4, "margin_per_score": 0.3, "centring": 0.1}
    given = pair(0.8, 1.5)
    turned = GradedPairs(
        Pairs(given.pairs.rejected_P, given.pairs.chosen_P, 1 - given.pairs.probability_P), given.gap_P
    )
    one, other = (bradley_terry(scores(0.3, -1.1), None, index, **settings) for index in (given, turned))
    assert one.per_example.tolist() == pytest.approx(other.per_example.tolist())


def test_scores_far_apart_stay_finite() -> None:
    score_N = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = bradley_terry(Scores(score_N), None, pair())
    assert loss.per_example.tolist() == [2e4]
    (slope_N,) = torch.autograd.grad(loss.per_example.sum(), score_N)
    assert slope_N.tolist() == [-1.0, 1.0]


def test_collate_numbers_rows_and_keeps_gaps() -> None:
    relations = (
        GradedPairRelation(PairRelation(((1, 0, 1.0),)), (2.5,)),
        GradedPairRelation(PairRelation(((0, 2, 0.7), (0, 1, 1.0))), (0.0, 1.0)),
    )
    index = GradedPairs.collate(relations, [0, 2])
    assert index.pairs.chosen_P.tolist() == [1, 2, 2]
    assert index.pairs.rejected_P.tolist() == [0, 4, 3]
    assert index.gap_P.tolist() == [2.5, 0.0, 1.0]
