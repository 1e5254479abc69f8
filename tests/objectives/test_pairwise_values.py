"""Pairwise objectives by values worked by hand, and what each becomes in its limits.

All on one pair: sums -3 and -5 against -4 and -4, so log-ratios 1 and -1, h = 2; at beta 0.1 the margin m = 0.2,
-ln sigmoid(0.2) = 0.598139 and -ln sigmoid(-0.2) = 0.798139.
"""

import math
from collections.abc import Sequence

import pytest
import torch
from support.objective_cases import counted

from trueup.batch.index import Pairs, PairsWithTarget
from trueup.batch.logprobs import LogProbs
from trueup.objectives.dpo import dpo, robust_dpo
from trueup.objectives.ipo import ipo
from trueup.objectives.slic import slic
from trueup.objectives.slic_hf import slic_hf


def log_probs(*rows: Sequence[float]) -> LogProbs:
    tokens = [token for row in rows for token in row]
    return LogProbs(torch.tensor(tokens, dtype=torch.float64), torch.tensor([len(row) for row in rows]))


def pair(probability: float = 1.0, *, turned: bool = False) -> Pairs:
    first, second = (1, 0) if turned else (0, 1)
    return Pairs(
        torch.tensor([first]), torch.tensor([second]), torch.tensor([probability], dtype=torch.float64)
    )


POLICY, REFERENCE = log_probs([-1, -2], [-5]), log_probs([-2, -2], [-4])


@pytest.mark.parametrize(
    ("smoothing", "probability", "expected"),
    [
        (0.1, 1.0, 0.618139),  # 0.9 * 0.598139 + 0.1 * 0.798139
        (0.1, 0.75, 0.658139),  # 0.9 * 0.75 + 0.1 * 0.25 = 0.7 of the one, 0.3 of the other
        (0.0, 0.75, 0.648139),
    ],
)
def test_dpo_smoothed(smoothing: float, probability: float, expected: float) -> None:
    loss = dpo(POLICY, REFERENCE, pair(probability), beta=0.1, label_smoothing=smoothing)
    assert loss.per_example.tolist() == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize(
    ("share", "probability", "expected"),
    [
        (0.1, 1.0, 0.573139),  # (0.9 * 0.598139 - 0.1 * 0.798139) / 0.8
        (0.1, 0.75, 0.635639),  # (0.75 - 0.1) / 0.8 = 0.8125 of the one, 0.1875 of the other
        (0.0, 1.0, 0.598139),
    ],
)
def test_robust_dpo(share: float, probability: float, expected: float) -> None:
    loss = robust_dpo(POLICY, REFERENCE, pair(probability), beta=0.1, label_smoothing=share)
    assert loss.per_example.tolist() == pytest.approx([expected], abs=1e-6)
    assert loss.metrics["rewards/margins"].tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.49])
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_robust_dpo_is_dpo_on_average_over_flipped_orders(share: float, beta: float) -> None:
    right, wrong = (
        robust_dpo(POLICY, REFERENCE, pair(turned=turned), beta=beta, label_smoothing=share).per_example
        for turned in (False, True)
    )
    clean = dpo(POLICY, REFERENCE, pair(), beta=beta).per_example
    torch.testing.assert_close((1 - share) * right + share * wrong, clean)


@pytest.mark.parametrize("probability", [0.6, 0.8, 1.0])
def test_robust_dpo_takes_back_what_smoothing_does(probability: float) -> None:
    smoothed = dpo(POLICY, REFERENCE, pair(probability), label_smoothing=0.2).per_example
    mixed = robust_dpo(
        POLICY, REFERENCE, pair(0.8 * probability + 0.2 * (1 - probability)), label_smoothing=0.2
    )
    assert smoothed.item() != pytest.approx(mixed.per_example.item())
    torch.testing.assert_close(mixed.per_example, dpo(POLICY, REFERENCE, pair(probability)).per_example)


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


@pytest.mark.parametrize("probability", [0.6, 0.75, 1.0])
def test_ipo_is_lowest_where_its_paper_says(probability: float) -> None:
    """At h = (2 p - 1) / (2 beta)."""
    policy = log_probs([(2 * probability - 1) / (2 * 0.25) - 2], [-2])
    policy.token_S.requires_grad_()
    ipo(policy, log_probs([-2], [-2]), pair(probability), beta=0.25).per_example.sum().backward()
    assert policy.token_S.grad is not None
    assert policy.token_S.grad.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_ipo_begins_at_the_square_of_its_target(beta: float) -> None:
    loss = ipo(POLICY, POLICY, pair(), beta=beta)
    assert loss.per_example.tolist() == pytest.approx([1 / (2 * beta) ** 2])


@pytest.mark.parametrize(
    ("beta", "probability", "expected"),
    [
        (0.1, 1.0, 0.8),  # 1 - 0.2
        (0.1, 0.75, 0.9),  # 0.75 * 0.8 + 0.25 * 1.2
        (1.0, 1.0, 0.0),  # h = 2 is past the hinge
        (1.0, 0.75, 0.75),  # 0.25 * (1 + 2)
    ],
)
def test_slic(beta: float, probability: float, expected: float) -> None:
    loss = slic(POLICY, REFERENCE, pair(probability), beta=beta)
    assert loss.per_example.tolist() == pytest.approx([expected])
    assert loss.metrics["rewards/margins"].tolist() == pytest.approx([2 * beta])


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


def test_all_agree_on_the_direction_at_the_reference() -> None:
    """At h = 0 each pulls with its own strength: beta / 2, beta / 2, 1 / beta, beta."""
    beta, found = 0.25, []
    for objective in (dpo, robust_dpo, ipo, slic):
        policy = log_probs([-3], [-3])
        policy.token_S.requires_grad_()
        objective(policy, policy.detach(), pair(), beta=beta).per_example.sum().backward()
        assert policy.token_S.grad is not None
        chosen, rejected = policy.token_S.grad.tolist()
        assert chosen == pytest.approx(-rejected)
        found.append(-chosen)
    # Of robust DPO: beta (1/2 + e / (1 - 2 e)) at e = 0.1.
    assert found == pytest.approx([beta / 2, beta * (0.5 + 0.1 / 0.8), 1 / beta, beta])


def test_robust_dpo_has_no_lowest_value() -> None:
    far = log_probs([-1.0], [-1e4])
    loss = robust_dpo(far, log_probs([-1.0], [-1.0]), pair(), beta=1.0, label_smoothing=0.1)
    # -e m / (1 - 2 e) for large m: the right order is certain, and the flipped share is paid back.
    assert loss.per_example.item() == pytest.approx(-0.1 * 9999 / 0.8)
    assert math.isfinite(loss.per_example.item())
