"""One value per objective worked by hand, and what each becomes in its limits."""

import math
from collections.abc import Sequence

import pytest
import torch
from support.objective_cases import counted

from trueup.batch.index import Demonstrations, Pairs, Points, Rankings
from trueup.batch.logprobs import LogProbs
from trueup.objectives.dpo import dpo
from trueup.objectives.rrhf import rrhf
from trueup.objectives.sft import sft
from trueup.objectives.ulma import ulma


def log_probs(*rows: Sequence[float]) -> LogProbs:
    tokens = [token for row in rows for token in row]
    return LogProbs(torch.tensor(tokens, dtype=torch.float64), torch.tensor([len(row) for row in rows]))


def pair(probability: float = 1.0) -> Pairs:
    return Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([probability]))


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


def test_dpo_unsure() -> None:
    """As above with probability 0.75: 0.75 * 0.598139 + 0.25 * (0.598139 + 0.2) = 0.648139."""
    policy, reference = log_probs([-1, -2], [-5]), log_probs([-2, -2], [-4])
    loss = dpo(policy, reference, pair(0.75), beta=0.1)
    assert loss.per_example.tolist() == pytest.approx([0.648139], abs=1e-6)


@pytest.mark.parametrize("probability", [0.6, 0.75, 1.0])
@pytest.mark.parametrize("beta", [0.01, 1.0])
def test_dpo_at_zero_margin_is_ln_2(probability: float, beta: float) -> None:
    policy = log_probs([-1, -2], [-5])
    loss = dpo(policy, policy, pair(probability), beta=beta)
    assert loss.per_example.tolist() == pytest.approx([math.log(2)], abs=1e-7)  # probability is float32
    assert loss.metrics["rewards/accuracies"].tolist() == [0.0]


def test_dpo_of_an_unsure_pair_is_lowest_where_the_margin_says_so() -> None:
    """sigmoid(m) = 0.75 at m = ln 3, so beta 1 and a log-ratio of ln 3 have no gradient left."""
    policy, reference = log_probs([-1.0], [-2.0]), log_probs([-1.0 - math.log(3)], [-2.0])
    policy.token_S.requires_grad_()
    dpo(policy, reference, pair(0.75), beta=1.0).per_example.sum().backward()
    assert policy.token_S.grad is not None
    assert policy.token_S.grad.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_identical_responses_pull_against_each_other_in_full() -> None:
    policy = log_probs([-1, -2], [-1, -2])
    policy.token_S.requires_grad_()
    dpo(policy, log_probs([-2, -2], [-2, -2]), pair()).per_example.sum().backward()
    assert policy.token_S.grad is not None
    # beta sigmoid(0) on every token, so that the gradient of a model, which is their sum, vanishes.
    assert policy.token_S.grad.tolist() == pytest.approx([-0.05, -0.05, 0.05, 0.05])


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


def test_rrhf_sums_over_all_ordered_pairs() -> None:
    """Means -3, -2, -1 for scores 3, 2, 1: hinges 1 (2 over 3), 2 (1 over 3), 1 (1 over 2); best costs 3."""
    loss = rrhf(log_probs([-3], [-2, -2], [-1]), None, ranking(3.0, 2.0, 1.0))
    assert loss.per_example.tolist() == [7.0]


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


def test_ulma_continuous() -> None:
    """s = 0.1: (0.8 - 0.1)^2 = 0.49, (1 - 0.1)^2 = 0.81; a demonstration is imitated whatever its label."""
    policy = log_probs([-3], [-3], [-1, -2])
    reference = log_probs([-4], [-4], [-9, -9])
    judged = points([0.8, 1.0, 0.5], [False, False, True])
    loss = ulma(policy, reference, judged, beta=0.1, continuous=True)
    assert loss.per_example.tolist() == pytest.approx([0.49, 0.81, 3.0], abs=1e-7)  # labels are float32


@pytest.mark.parametrize("labels", [[1.0, 1.0, 1.0], [0.3, 1.0, 0.0]])
def test_ulma_without_anything_but_demonstrations_is_sft_summed(labels: list[float]) -> None:
    policy, reference = log_probs([-1, -2], [-0.5], [-4]), log_probs([-2, -2], [-3], [-1])
    imitated = sft(policy, None, Demonstrations(), per_token=False)
    for continuous in (False, True):
        loss = ulma(policy, reference, points(labels, [True] * 3), continuous=continuous)
        assert torch.equal(loss.per_example, imitated.per_example)
        assert torch.equal(loss.weight, imitated.weight)


def test_ulma_of_thumbs_up_is_sft_summed() -> None:
    policy, reference = log_probs([-1, -2], [-0.5]), log_probs([-2, -2], [-3])
    loss = ulma(policy, reference, points([1.0, 1.0], [False, False]))
    assert loss.per_example.tolist() == [3.0, 0.5]
