"""PPO, REINFORCE and RLOO: at a ratio of 1 they are the policy gradient, and what clipping does beyond it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from support.objective_cases import vector
from torch import Tensor

from trueup.batch.rows import LogProbs, Rollouts
from trueup.objectives.grpo import grpo
from trueup.objectives.loss import Loss
from trueup.objectives.ppo import ppo
from trueup.objectives.reinforce import reinforce
from trueup.objectives.rloo import rloo

OLD = (-1.0, -2.0, -0.5)
ADVANTAGES = (2.0, -0.7, 0.3)


ZEROS = (0.0, 0.0, 0.0)


def rollouts(
    *, old: Sequence[float] = OLD, advantage: Sequence[float] = ADVANTAGES, target: Sequence[float] = ZEROS,
    value: Sequence[float] = ZEROS,
) -> Rollouts:  # fmt: skip
    """Of two responses of 2 tokens and 1."""
    return Rollouts(*(vector(*given) for given in (old, advantage, target, value)))


def policy(token_S: Tensor, value_S: Tensor | None = None) -> LogProbs:
    return LogProbs(token_S, torch.tensor([2, 1]), None, torch.zeros_like(token_S) if value_S is None else value_S)


OBJECTIVES = {
    "ppo": partial(ppo, value_weight=1.0), "reinforce": partial(reinforce, value_weight=1.0), "rloo": rloo,
    "grpo": partial(grpo, kl_coef=0.0, average_over="tokens"),
}  # fmt: skip


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_where_nothing_has_moved_it_is_the_policy_gradient(objective: Callable[..., Loss]) -> None:
    """d/d theta of the sum of -A log pi, to the last bit: d ratio = d log pi at ratio 1."""
    token_S = vector(*OLD).requires_grad_()
    (found,) = torch.autograd.grad(objective(policy(token_S), None, rollouts()).per_example.sum(), token_S)
    (expected,) = torch.autograd.grad((-vector(*ADVANTAGES) * token_S).sum(), token_S)
    assert torch.equal(found, expected)


def ratio(*values: float) -> Tensor:
    """Log-probabilities that stand in these ratios to the old ones."""
    return vector(*OLD) + vector(*values).log()


@pytest.mark.parametrize(
    ("advantage", "moved", "loss", "clipped"),
    [
        (1.0, 1.1, -1.1, False),  # within
        (1.0, 1.5, -1.2, True),  # better by more than it may: no gradient
        (1.0, 0.5, -0.5, False),  # worse: the whole way back
        (-1.0, 0.9, 0.9, False),
        (-1.0, 0.5, 0.8, True),
        (-1.0, 1.5, 1.5, False),
    ],
)
def test_ppo_clips_what_it_has_earned(advantage: float, moved: float, loss: float, clipped: bool) -> None:
    token_S = ratio(moved, 1, 1).requires_grad_()
    made = ppo(policy(token_S), None, rollouts(advantage=(advantage, 0, 0)), clip=0.2)
    assert made.per_example.tolist() == pytest.approx([loss, 0])
    (slope,) = torch.autograd.grad(made.per_example.sum(), token_S)
    assert slope[0].item() == pytest.approx(0 if clipped else -advantage * moved)
    assert made.metrics["policy/clipfrac"].tolist() == [float(clipped), 0, 0]


@pytest.mark.parametrize(
    ("value", "loss", "slope", "clipped"),
    [
        (0.1, 0.5 * 0.9**2, -0.9, False),  # within: the plain error
        (0.6, 0.5 * 0.8**2, 0.0, True),  # nearer to the target than it may get in a round: no gradient
        (-0.6, 0.5 * 1.6**2, -1.6, False),  # further away: the plain error is the larger one
    ],
)
def test_ppo_clips_values(value: float, loss: float, slope: float, clipped: bool) -> None:
    """The old value is 0, the target 1, the clip 0.2."""
    value_S = vector(value, 0, 0).requires_grad_()
    index = rollouts(advantage=(0, 0, 0), target=(1, 0, 0))
    made = ppo(policy(vector(*OLD), value_S), None, index, value_clip=0.2, value_weight=3.0)
    assert made.per_example.tolist() == pytest.approx([3 * loss, 0])
    (found,) = torch.autograd.grad(made.per_example.sum(), value_S)
    assert found.tolist() == pytest.approx([3 * slope, 0, 0])
    assert made.metrics["val/clipfrac"].tolist() == [float(clipped), 0, 0]


def test_values_are_clipped_around_the_old_ones() -> None:
    """2.0 may not come nearer to 1 than 1.8, so that at 1.3 the error is 0.8 and not 0.3."""
    index = rollouts(advantage=(0, 0, 0), target=(1, 0, 0), value=(2, 0, 0))
    made = ppo(policy(vector(*OLD), vector(1.3, 0, 0)), None, index, value_clip=0.2)
    assert made.per_example.tolist() == pytest.approx([0.5 * 0.8**2, 0])


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_token_the_old_policy_never_would_have_written_is_survived(
    objective: Callable[..., Loss], sign: float
) -> None:
    """Its ratio would be e to the 10,000."""
    token_S = vector(*OLD).float().requires_grad_()
    index = rollouts(old=(-1e4, -2, -0.5), advantage=(sign, sign, sign))
    made = objective(policy(token_S), None, index)
    (slope,) = torch.autograd.grad(made.per_example.sum(), token_S)
    assert all(values.isfinite().all() for values in (made.per_example, slope, *made.metrics.values()))


def test_ppo_is_a_mean_over_tokens() -> None:
    """Ratios 1.1, 1 and 1: -2.2 + 0.7 and -0.3 over 3 tokens; ln 1.1 = 0.09531."""
    made = ppo(policy(ratio(1.1, 1, 1)), None, rollouts())
    assert made.per_example.tolist() == pytest.approx([-1.5, -0.3])
    assert made.weight.tolist() == [2, 1]
    shown = {name: values.tolist() for name, values in made.metrics.items()}
    assert shown["policy/ratio"] == pytest.approx([1.1, 1, 1])
    assert shown["policy/approxkl"] == pytest.approx([0.1 - math.log(1.1), 0, 0])
    assert shown["loss/policy"] == pytest.approx([-2.2, 0.7, -0.3])
    assert shown["loss/value"] == [0, 0, 0]


def test_reinforce() -> None:
    """2 * 1 - 0.7 * 2 = 0.6 and 0.3 * 0.5 = 0.15; values 1, 0, 0 against 0, 2, 0: squared errors 5 and 0."""
    made = reinforce(policy(vector(*OLD), vector(1, 0, 0)), None, rollouts(target=(0, 2, 0)), value_weight=0.1)
    assert made.per_example.tolist() == pytest.approx([0.6 + 0.5, 0.15])
    assert made.weight.tolist() == [1, 1]
    assert made.metrics["loss/policy"].tolist() == pytest.approx([0.6, 0.15])
    assert made.metrics["loss/value"].tolist() == pytest.approx([5, 0])


def test_rloo() -> None:
    """A response is one action: 1.5 * (1 + 2) and -1.5 * 0.5, each counted once."""
    made = rloo(policy(vector(*OLD)), None, rollouts(advantage=(1.5, 1.5, -1.5)))
    assert made.per_example.tolist() == pytest.approx([4.5, -0.75])
    assert made.weight.tolist() == [1, 1]


def test_the_value_head_learns_what_came() -> None:
    """Gradient of c (Z - V)^2 and of c/2 (V - R)^2 in V, which no advantage touches."""
    index = rollouts(target=(1, 0, -1))
    for objective, slope in ((reinforce, 2 * 0.3), (partial(ppo, value_clip=9.0), 0.3)):
        value_S = vector(0.5, 0.5, 0.5).requires_grad_()
        loss = objective(policy(vector(*OLD), value_S), None, index, value_weight=0.3)
        (found,) = torch.autograd.grad(loss.per_example.sum(), value_S)
        assert found.tolist() == pytest.approx([slope * -0.5, slope * 0.5, slope * 1.5])


def test_the_approximate_kl_is_never_below_0() -> None:
    for moved in (0.2, 0.99, 1.0, 1.01, 5.0):
        kl_S = rloo(policy(ratio(moved, 1, 1)), None, rollouts()).metrics["policy/approxkl"]
        assert kl_S[0] >= 0
        assert kl_S[0].item() == pytest.approx(moved - 1 - math.log(moved), abs=1e-12)


def test_an_entropy_bonus_by_hand() -> None:
    """-0.1 H a token: 0.1 (2 + 1) off the first response, 0.1 0.5 off the second, and 0.1 off every slope by H."""
    entropy_S = vector(2.0, 1.0, 0.5).requires_grad_()
    given = replace(policy(vector(*OLD)), entropy_S=entropy_S)
    plain = ppo(policy(vector(*OLD)), None, rollouts())
    loss = ppo(given, None, rollouts(), entropy_coef=0.1)
    assert (plain.per_example - loss.per_example).tolist() == pytest.approx([0.3, 0.05], rel=1e-12)
    assert loss.weight.tolist() == plain.weight.tolist() == [2.0, 1.0]
    assert loss.metrics["policy/entropy"].tolist() == [2.0, 1.0, 0.5]
    (slope_S,) = torch.autograd.grad(loss.per_example.sum(), entropy_S)
    assert slope_S.tolist() == pytest.approx([-0.1] * 3, rel=1e-12)


def test_no_bonus_is_the_same_to_the_bit_and_asks_for_no_entropy() -> None:
    index = rollouts(target=(0.3, 0.7, -0.2))
    moved = policy(vector(-1.2, -1.9, -0.4), vector(0.1, 0.2, 0.3))
    plain, without = ppo(moved, None, index), ppo(moved, None, index, entropy_coef=0.0)
    assert torch.equal(plain.per_example, without.per_example)
    assert plain.metrics.keys() == without.metrics.keys()
    assert "policy/entropy" not in plain.metrics
