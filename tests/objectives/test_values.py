"""What objectives report, by values worked by hand, and what each becomes in its limits.

Their losses and gradients are compared with the papers' formulas in `tests/parity`.
"""

import math
from collections.abc import Sequence

import pytest
import torch
from support.objective_cases import counted

from trueup.batch.rows import (
    Demonstrations,
    GradedPairs,
    LogProbs,
    Pairs,
    PairsWithTarget,
    Points,
    Rankings,
    Scores,
)
from trueup.feedback.records import GradedPairRelation, PairRelation, RankRelation
from trueup.objectives.bradley_terry import bradley_terry
from trueup.objectives.dpo import dpo, robust_dpo
from trueup.objectives.ipo import ipo
from trueup.objectives.rrhf import padded_length, rrhf, rrhf_padded
from trueup.objectives.sft import sft
from trueup.objectives.slic import slic
from trueup.objectives.slic_hf import slic_hf
from trueup.objectives.ulma import ulma
from trueup.objectives.unlikelihood import NEAREST, log1mexp, unlikelihood, unlikelihood_ascent


def log_probs(*rows: Sequence[float]) -> LogProbs:
    tokens = [token for row in rows for token in row]
    return LogProbs(torch.tensor(tokens, dtype=torch.float64), torch.tensor([len(row) for row in rows]))


def pair(probability: float = 1.0, *, turned: bool = False) -> Pairs:
    first, second = (1, 0) if turned else (0, 1)
    given = torch.tensor([probability], dtype=torch.float64)
    return Pairs(torch.tensor([first]), torch.tensor([second]), given)


def ranking(*scores: float) -> Rankings:
    return Rankings(torch.tensor(scores), torch.zeros(len(scores), dtype=torch.int64), 1)


def points(labels: Sequence[float], demonstrations: Sequence[bool]) -> Points:
    return Points(torch.tensor(labels), torch.tensor(demonstrations))


def test_sft() -> None:
    """Two responses of -1 - 2 and -0.5: losses 3 and 0.5; per token 3.5 / 3, per response 3.5 / 2."""
    policy = log_probs([-1, -2], [-0.5])
    per_token = sft(policy, None, Demonstrations())
    assert per_token.per_example.tolist() == [3.0, 0.5]
    assert per_token.weight.tolist() == [2.0, 1.0]
    per_response = sft(policy, None, Demonstrations(), per_token=False)
    assert per_response.per_example.tolist() == [3.0, 0.5]
    assert per_response.weight.tolist() == [1.0, 1.0]
    assert per_response.metrics["logps/demonstrations"].tolist() == [-3.0, -0.5]


def test_dpo() -> None:
    """Sums -3 and -5 against -4 and -4: log-ratios 1 and -1, rewards 0.1 and -0.1, margin 0.2.

    Loss ln(1 + exp(-0.2)) = ln 1.818731 = 0.598139.
    """
    policy, reference = log_probs([-1, -2], [-5]), log_probs([-2, -2], [-4])
    loss = dpo(policy, reference, pair(), beta=0.1)
    assert loss.per_example.tolist() == pytest.approx([0.598139], abs=1e-6)
    assert loss.weight.tolist() == [1.0]
    shown = {name: counted(values).item() for name, values in loss.metrics.items()}
    assert shown == pytest.approx(
        {
            "rewards/chosen": 0.1,
            "rewards/rejected": -0.1,
            "rewards/margins": 0.2,
            "rewards/accuracies": 1.0,
            "logps/chosen": -3.0,
            "logps/rejected": -5.0,
        }
    )


@pytest.mark.parametrize("probability", [0.6, 0.75, 1.0])
@pytest.mark.parametrize("beta", [0.01, 1.0])
def test_dpo_at_zero_margin_is_ln_2(probability: float, beta: float) -> None:
    policy = log_probs([-1, -2], [-5])
    loss = dpo(policy, policy, pair(probability), beta=beta)
    assert loss.per_example.tolist() == pytest.approx([math.log(2)], abs=1e-7)  # probability is float32
    assert loss.metrics["rewards/accuracies"].tolist() == [0.0]


def test_rrhf() -> None:
    """Means -1.5 (score 1) and -0.5 (score 0): the worse is likelier by 1, the best costs 1 + 2: 4."""
    policy = log_probs([-1, -2], [-0.5])
    loss = rrhf(policy, None, ranking(1.0, 0.0))
    assert loss.per_example.tolist() == [4.0]
    assert loss.row.tolist() == [0]
    assert loss.metrics["loss/rank"].tolist() == [1.0]
    assert loss.metrics["loss/sft"].tolist() == [3.0]
    assert loss.metrics["rewards/accuracies"].tolist() == [0.0]
    weighted = rrhf(policy, None, ranking(1.0, 0.0), rank_weight=2.0, sft_weight=0.5)
    assert weighted.per_example.tolist() == [3.5]


def test_rrhf_in_perfect_order_is_the_nll_of_the_best() -> None:
    loss = rrhf(log_probs([-3], [-1, -1], [-2]), None, ranking(0.1, 0.9, 0.5))
    assert loss.per_example.tolist() == [2.0]
    assert loss.row.tolist() == [1]
    assert loss.metrics["rewards/accuracies"].tolist() == [1.0, 1.0, 1.0]


def test_rrhf_imitates_the_first_of_several_best_and_does_not_rank_them() -> None:
    loss = rrhf(log_probs([-9], [-4], [-1], [-8]), None, ranking(0.0, 1.0, 1.0, 1.0))
    assert loss.row.tolist() == [1]
    # -9 is the worst of all, so no hinge; between the equal ones there is none.
    assert loss.per_example.tolist() == [4.0]


def test_rrhf_with_all_scores_equal_imitates_the_first() -> None:
    loss = rrhf(log_probs([-1, -2], [-0.5]), None, ranking(0.3, 0.3))
    assert loss.per_example.tolist() == [3.0]
    assert loss.metrics["rewards/accuracies"].tolist() == []


def test_ulma_binary() -> None:
    """Demonstration: 1 + 2 = 3. Thumb up: the same of -4. Thumb down: log-ratio 1, s = 0.1,
    -ln(1 - sigmoid(0.1)) = ln(1 + e^0.1) = 0.744397. Label 0.25 on it: 0.25 * 3 + 0.75 * 0.744397 = 1.308298.
    """
    policy = log_probs([-1, -2], [-4], [-3], [-3])
    reference = log_probs([-9, -9], [-9], [-4], [-4])
    judged = points([0.0, 1.0, 0.0, 0.25], [True, False, False, False])
    loss = ulma(policy, reference, judged, beta=0.1)
    assert loss.per_example.tolist() == pytest.approx([3.0, 4.0, 0.744397, 1.308298], abs=1e-6)
    assert loss.row.tolist() == [0, 1, 2, 3]
    assert loss.metrics["logps/demonstrations"].tolist() == [-3.0]
    assert loss.metrics["rewards/rejected"].tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("labels", [[1.0, 1.0, 1.0], [0.3, 1.0, 0.0]])
def test_ulma_without_anything_but_demonstrations_is_sft_summed(labels: list[float]) -> None:
    policy, reference = log_probs([-1, -2], [-0.5], [-4]), log_probs([-2, -2], [-3], [-1])
    imitated = sft(policy, None, Demonstrations(), per_token=False)
    for continuous in (False, True):
        loss = ulma(policy, reference, points(labels, [True] * 3), continuous=continuous)
        assert torch.equal(loss.per_example, imitated.per_example)
        assert torch.equal(loss.weight, imitated.weight)


POLICY, REFERENCE = log_probs([-1, -2], [-5]), log_probs([-2, -2], [-4])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.49])
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_robust_dpo_is_dpo_on_average_over_flipped_orders(share: float, beta: float) -> None:
    right, wrong = (
        robust_dpo(POLICY, REFERENCE, pair(turned=turned), beta=beta, label_smoothing=share).per_example
        for turned in (False, True)
    )
    clean = dpo(POLICY, REFERENCE, pair(), beta=beta).per_example
    torch.testing.assert_close((1 - share) * right + share * wrong, clean)


@pytest.mark.parametrize(
    ("per_token", "probability", "expected"),
    [
        (False, 1.0, 9.0),  # (2 - 5)^2
        (False, 0.75, 19.0),  # 0.75 * 9 + 0.25 * 7^2
        (True, 1.0, 12.25),  # log-ratios 1 / 2 and -1: (1.5 - 5)^2
        (True, 0.5, 27.25),  # half of 12.25 and of 6.5^2 = 42.25
    ],
)
def test_ipo(per_token: bool, probability: float, expected: float) -> None:
    loss = ipo(POLICY, REFERENCE, pair(probability), beta=0.1, per_token=per_token)
    assert loss.per_example.tolist() == pytest.approx([expected])
    reward = 0.05 if per_token else 0.1
    assert loss.metrics["rewards/chosen"].tolist() == pytest.approx([reward])
    assert loss.metrics["rewards/margins"].tolist() == pytest.approx([reward + 0.1])
    assert loss.metrics["logps/chosen"].tolist() == [-3.0]


def test_slic_pulls_no_longer_past_its_hinge() -> None:
    policy = log_probs([-1, -2], [-5])
    policy.token_S.requires_grad_()
    slic(policy, REFERENCE, pair(), beta=0.6).per_example.sum().backward()
    assert policy.token_S.grad is not None
    assert policy.token_S.grad.tolist() == [0.0, 0.0, 0.0]


def targeted(target: int, probability: float = 1.0) -> PairsWithTarget:
    return PairsWithTarget(pair(probability), torch.tensor([target]))


@pytest.mark.parametrize(
    ("margin", "target", "probability", "expected"),
    [
        (1.0, 0, 1.0, 0.3),  # 2 apart, so no hinge; 0.1 * 3 for the chosen response
        (3.0, 0, 1.0, 1.3),  # 3 - 2 short
        (3.0, 0, 0.75, 2.3),  # 0.75 * 1 + 0.25 * 5
        (3.0, 2, 1.0, 1.05),  # 0.1 * 0.5 for the demonstration
    ],
)
def test_slic_hf(margin: float, target: int, probability: float, expected: float) -> None:
    policy = log_probs([-1, -2], [-5], [-0.5])
    loss = slic_hf(policy, None, targeted(target, probability), margin=margin, regularization=0.1)
    assert loss.per_example.tolist() == pytest.approx([expected])
    assert loss.row.tolist() == [target]
    assert loss.weight.tolist() == [1.0]
    shown = {name: counted(values).item() for name, values in loss.metrics.items()}
    assert shown == pytest.approx(
        {
            "loss/calibration": expected - 0.1 * (0.5 if target else 3.0),
            "loss/sft": 0.5 if target else 3.0,
            "rewards/chosen": -3.0,
            "rewards/rejected": -5.0,
            "rewards/margins": 2.0,
            "rewards/accuracies": 1.0,
            "logps/chosen": -3.0,
            "logps/rejected": -5.0,
        }
    )


def test_robust_dpo_has_no_lowest_value() -> None:
    far = log_probs([-1.0], [-1e4])
    loss = robust_dpo(far, log_probs([-1.0], [-1.0]), pair(), beta=1.0, label_smoothing=0.1)
    # -e m / (1 - 2 e) for large m: the right order is certain, and the flipped share is paid back.
    assert loss.per_example.item() == pytest.approx(-0.1 * 9999 / 0.8)
    assert math.isfinite(loss.per_example.item())


Tokens = Sequence[Sequence[float]]


def rows(*groups: tuple[int, Tokens]) -> LogProbs:
    """Groups of the length of a prompt and the tokens of each response."""
    every = [(prompt, row) for prompt, responses in groups for row in responses]
    return LogProbs(
        torch.tensor([token for _, row in every for token in row], dtype=torch.float64),
        torch.tensor([len(row) for _, row in every]),
        torch.tensor([prompt for prompt, _ in every]),
    )


def rankings(*scores: Sequence[float]) -> Rankings:
    first_rows = [sum(map(len, scores[:number])) for number in range(len(scores))]
    return Rankings.collate([RankRelation(tuple(given)) for given in scores], first_rows)


def test_rrhf_with_one_divisor_for_a_group() -> None:
    """Prompt 3, longest response 2: L = 5. p = -0.6 for the better, -0.1 for the worse: 0.5 + 0.6."""
    policy, ranked = rows((3, [[-1, -2], [-0.5]])), rankings([1.0, 0.0])
    loss = rrhf_padded(policy, None, ranked)
    assert loss.per_example.tolist() == pytest.approx([1.1])
    assert loss.metrics["loss/rank"].tolist() == pytest.approx([0.5])
    assert loss.metrics["loss/sft"].tolist() == pytest.approx([0.6])
    assert loss.metrics["rewards/chosen"].tolist() == pytest.approx([-0.6])
    assert loss.metrics["logps/chosen"].tolist() == [-3.0]
    weighted = rrhf_padded(policy, None, ranked, rank_weight=2.0, sft_weight=0.5)
    assert weighted.per_example.tolist() == pytest.approx([1.3])


def test_every_group_has_its_own_padded_length() -> None:
    """L = 3 + 2 and 1 + 4, whatever stands beside a group."""
    policy = rows((3, [[-1, -2], [-0.5]]), (1, [[-1], [-1, -1, -1, -1], [-2]]))
    ranked = rankings([1.0, 0.0], [0.0, 2.0, 1.0])
    assert padded_length(policy, ranked).tolist() == [5, 5, 5, 5, 5]
    policy = rows((7, [[-1, -2], [-0.5]]), (1, [[-1], [-1, -1, -1, -1], [-2]]))
    assert padded_length(policy, ranked).tolist() == [9, 9, 5, 5, 5]
    loss = rrhf_padded(policy, None, ranked)
    # -3 against -0.5 over 9; -4 against -2 and -1, -2 against -1, over 5.
    assert loss.per_example.tolist() == pytest.approx([(2.5 + 3) / 9, (2 + 3 + 1 + 4) / 5])


def thumbs(*labels: float) -> Points:
    return points(labels, [False] * len(labels))


def test_unlikelihood() -> None:
    """Thumb up of -1 - 2: 3. Thumb down of probabilities 0.5 and 0.25: -ln 0.5 - ln 0.75 = 0.980829.

    Label 0.25 on the same: 0.25 * 3 ln 2 + 0.75 * 0.980829 = 1.255482.
    """
    down = [math.log(0.5), math.log(0.25)]
    policy = log_probs([-1, -2], down, down)
    loss = unlikelihood(policy, None, thumbs(1.0, 0.0, 0.25))
    assert loss.per_example.tolist() == pytest.approx([3.0, 0.980829, 1.255482], abs=1e-6)
    assert loss.weight.tolist() == [1.0, 1.0, 1.0]
    assert loss.row.tolist() == [0, 1, 2]
    assert loss.metrics["logps/chosen"].tolist() == [-3.0]
    assert loss.metrics["logps/rejected"].tolist() == pytest.approx([-math.log(8)] * 2)
    twice = unlikelihood(policy, None, thumbs(1.0, 0.0, 0.25), weight=2.0)
    assert twice.per_example.tolist() == pytest.approx([3.0, 1.961659, 1.991104], abs=1e-6)


def test_unlikelihood_ascent() -> None:
    """Means -1.5, -2 and -2: 1.5 for a thumb up, -2 for a thumb down, (0.75 - 0.25) * -2 = -1 for 0.25."""
    policy = log_probs([-1, -2], [-1, -3], [-1, -3])
    loss = unlikelihood_ascent(policy, None, thumbs(1.0, 0.0, 0.25))
    assert loss.per_example.tolist() == [1.5, -2.0, -1.0]
    assert loss.metrics["rewards/rejected"].tolist() == [-4.0, -4.0]
    half = unlikelihood_ascent(policy, None, thumbs(1.0, 0.0, 0.25), weight=0.5)
    assert half.per_example.tolist() == [1.5, -1.0, -0.25]


def test_one_form_is_bounded_below_and_the_other_is_not() -> None:
    policy = log_probs([-1e6, -1e6])
    assert unlikelihood(policy, None, thumbs(0.0)).per_example.tolist() == [0.0]
    assert unlikelihood_ascent(policy, None, thumbs(0.0)).per_example.tolist() == [-1e6]


def exact(log_prob: float) -> float:
    return math.log(-math.expm1(log_prob)) if log_prob > -0.5 else math.log1p(-math.exp(log_prob))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log1mexp_keeps_its_digits(dtype: torch.dtype) -> None:
    """Down to a probability of e^-80 and up to within 1e-6 of 1, on both sides of where the formula changes."""
    given = -torch.logspace(math.log10(2 * NEAREST), math.log10(80), 400, dtype=torch.float64).to(dtype)
    given = torch.cat([given, torch.tensor([-0.693, -0.694, -NEAREST], dtype=dtype)])
    expected = torch.tensor([exact(value) for value in given.tolist()], dtype=torch.float64)
    found = log1mexp(given).double()
    torch.testing.assert_close(found, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)


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
    policy = LogProbs(logits.log_softmax(-1)[:, 0], torch.tensor([1]))
    loss = unlikelihood(policy, None, thumbs(0.0)).per_example
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all() and loss.item() > 0
    probability = math.exp(ahead) / (math.exp(ahead) + 2)
    if 1 - probability > 2 * NEAREST:
        assert grad[0, 0].item() == pytest.approx(probability, rel=0.05)  # 1 - p of float32 near 1
    assert 0 <= grad[0, 0].item() <= 1.05


def scores(*values: float) -> Scores:
    return Scores(torch.tensor(values, dtype=torch.float64))


def graded(probability: float = 1.0, gap: float = 0.0) -> GradedPairs:
    return GradedPairs(pair(probability), torch.tensor([gap], dtype=torch.float64))


def test_bradley_terry() -> None:
    """Scores 1.5 and 0.5 are 1 apart: ln(1 + exp(-1)) = 0.313262."""
    loss = bradley_terry(scores(1.5, 0.5), None, graded())
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


def test_bradley_terry_with_everything() -> None:
    """d = 1, m = 0.4 + 0.3 * 2 = 1, p = 0.75: 0.75 ln 2 + 0.25 ln(1 + e^2) + 0.01 * 2^2.

    = 0.519860 + 0.531732 + 0.04 = 1.091592.
    """
    loss = bradley_terry(
        scores(1.5, 0.5), None, graded(0.75, 2.0), margin=0.4, margin_per_score=0.3, centring=0.01
    )
    assert loss.per_example.tolist() == pytest.approx([1.091592], abs=1e-6)


def test_a_pair_may_be_told_the_other_way_round() -> None:
    """With the rest of its probability: the margin is that of whichever order is right."""
    settings = {"margin": 0.4, "margin_per_score": 0.3, "centring": 0.1}
    given = graded(0.8, 1.5)
    turned = GradedPairs(
        Pairs(given.pairs.rejected_P, given.pairs.chosen_P, 1 - given.pairs.probability_P), given.gap_P
    )
    one, other = (bradley_terry(scores(0.3, -1.1), None, index, **settings) for index in (given, turned))
    assert one.per_example.tolist() == pytest.approx(other.per_example.tolist())


def test_scores_far_apart_stay_finite() -> None:
    score_N = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = bradley_terry(Scores(score_N), None, graded())
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
