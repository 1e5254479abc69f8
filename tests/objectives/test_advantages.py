"""From scores to advantages: trajectories worked by hand, and what may not change them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.objective_cases import vector

from trueup.batch.rows import LogProbs
from trueup.objectives import rollout


def given_round(
    *, scores: Sequence[float] = (1.0, 3.0), ended: Sequence[bool] = (True, True), value: float = 0.0
) -> rollout.ScoredRound:
    """Two responses of 2 and 1 tokens to one prompt: log-ratios 0.5, -1 and 0, so -0.5 and 0 in all."""
    length_N = torch.tensor([2, 1])
    return rollout.ScoredRound(
        LogProbs(torch.tensor([-1.0, -2.0, -0.5]), length_N, None, torch.full((3,), value)),
        LogProbs(torch.tensor([-1.5, -1.0, -0.5]), length_N), vector(*scores),
        torch.zeros(2, dtype=torch.int64), torch.tensor(ended),
    )  # fmt: skip


def plain(**changes: Any) -> rollout.GeneralisedAdvantages:
    """Without whatever changes the size of a number."""
    settings = {"gae_lambda": 1.0, "scale_scores": False, "clip_reward": None, "whiten_advantages": False}
    return rollout.GeneralisedAdvantages(rollout.KLControl(0.1), **{**settings, **changes})


@hypothesis_settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_gae_is_that_of_each_response_alone(data: st.DataObject) -> None:
    """Against the sum of the definition, response by response."""
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    gamma, gae_lambda = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    reward_S, value_S = torch.randn(2, sum(lengths), generator=generator, dtype=torch.float64)
    expected = []
    for reward_R, value_R in zip(reward_S.split(lengths), value_S.split(lengths), strict=True):
        after = [*value_R.tolist()[1:], 0.0]
        deltas = [r + gamma * n - v for r, n, v in zip(reward_R.tolist(), after, value_R.tolist(), strict=True)]
        for at in range(len(deltas)):
            expected.append(sum((gamma * gae_lambda) ** more * d for more, d in enumerate(deltas[at:])))
    found = rollout.advantages(reward_S, value_S, torch.tensor(lengths), gamma=gamma, gae_lambda=gae_lambda)
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_whitened_values_have_mean_0_and_spread_1() -> None:
    """1, 2, 6: mean 3, variance (4 + 1 + 9) / 3."""
    spread = math.sqrt(14 / 3)
    assert rollout.whiten(vector(1, 2, 6)).tolist() == pytest.approx([-2 / spread, -1 / spread, 3 / spread])
    kept = rollout.whiten(vector(1, 2, 6), shift=False)
    assert kept.tolist() == pytest.approx([3 - 2 / spread, 3 - 1 / spread, 3 + 3 / spread])


def test_whitening_values_that_are_all_the_same_gives_0() -> None:
    assert rollout.whiten(vector(5, 5)).tolist() == [0, 0]
    assert rollout.whiten(vector(5)).tolist() == [0]


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(6.0, 0.05), (6.6, 0.05 * (1 + 0.1 * 64 / 10_000)), (5.4, 0.05 * (1 - 0.1 * 64 / 10_000)),
     (600.0, 0.05 * (1 + 0.2 * 64 / 10_000)), (-1.0, 0.05 * (1 - 0.2 * 64 / 10_000))],
)  # fmt: skip
def test_the_kl_controller_is_its_formula(kl: float, expected: float) -> None:
    assert rollout.KLControl(0.05, 6.0, 10_000).after(0.05, kl, 64) == pytest.approx(expected, rel=1e-12)


def test_a_fixed_kl_coefficient_stays() -> None:
    assert rollout.KLControl(0.05).after(0.05, 600.0, 64) == 0.05


def test_a_round_longer_than_the_horizon_leaves_the_coefficient_above_0() -> None:
    assert rollout.KLControl(0.05, 6.0, 10).after(0.05, 0.0, 1000) == pytest.approx(0.04)


def test_moments_of_parts_are_those_of_the_whole() -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 100
    seen = rollout.Moments()
    for part in values.split([1, 9, 40]):
        seen = rollout.Moments.from_memory(seen.with_values(part).to_memory("score"), "score")
    assert seen.count == 50
    assert seen.mean == pytest.approx(values.mean().item(), rel=1e-12)
    assert seen.std == pytest.approx(values.std().item(), rel=1e-10)


def test_ppo_takes_the_penalty_off_every_token() -> None:
    """beta 0.1: token rewards -0.05, 0.1 + 1 and 0 + 3; with lambda 1 and no values the sums 1.05, 1.1 and 3."""
    made = plain()(given_round(), {})
    assert made.advantage_S.tolist() == pytest.approx([1.05, 1.1, 3.0])
    assert made.target_S.tolist() == pytest.approx([1.05, 1.1, 3.0])
    assert made.metrics == pytest.approx(
        {
            "objective/kl": -0.25,
            "objective/kl_coef": 0.1,
            "objective/scores": 2.0,
            "objective/non_score_reward": 0.025,
            "objective/rlhf_reward": 2.025,
            "objective/entropy": 3.5 / 3,
            "val/mean": 0.0,
        }
    )


def test_ppo_aims_values_at_what_came() -> None:
    """With lambda 1 the target is what came, whatever was expected: A + V before A is whitened."""
    made = plain(whiten_advantages=True)(given_round(value=0.5), {})
    assert made.target_S.tolist() == pytest.approx([1.05, 1.1, 3.0])
    torch.testing.assert_close(made.advantage_S, rollout.whiten(vector(0.55, 0.6, 2.5)).float())
    assert made.metrics["val/mean"] == 0.5


def test_ppo_whitens_token_rewards_and_leaves_their_mean() -> None:
    reward_S = rollout.whiten(vector(-0.05, 1.1, 3.0), shift=False)
    made = plain(whiten_rewards=True)(given_round(), {})
    expected = [(reward_S[0] + reward_S[1]).item(), reward_S[1].item(), reward_S[2].item()]
    assert made.advantage_S.tolist() == pytest.approx(expected)


def test_ppo_scales_by_all_scores_so_far_and_then_clips() -> None:
    """1 and 3, then 1 and 7: standard deviations sqrt 2 and sqrt 8; 7 / sqrt 8 is 2.47, clipped to 2."""
    gae = plain(scale_scores=True, clip_reward=2.0)
    first = gae(given_round(), {})
    assert first.advantage_S[2].item() == pytest.approx(2.0)  # 3 / sqrt 2 is 2.12
    assert first.advantage_S[1].item() == pytest.approx(0.1 + 1 / math.sqrt(2))
    second = gae(given_round(scores=(1, 7)), first.memory)
    assert second.advantage_S[1].item() == pytest.approx(0.1 + 1 / math.sqrt(8))
    assert second.advantage_S[2].item() == pytest.approx(2.0)
    low = gae(given_round(scores=(-7, 7)), {})
    assert low.advantage_S[1].item() == pytest.approx(0.1 - 7 / math.sqrt(98))
    assert plain(clip_reward=2.0)(given_round(scores=(-7, 7)), {}).advantage_S[1].item() == pytest.approx(-1.9)


def test_scores_that_are_all_the_same_are_not_scaled() -> None:
    made = plain(scale_scores=True)(given_round(scores=(4, 4)), {})
    assert made.advantage_S[2].item() == pytest.approx(4.0)


def test_ppo_remembers_its_coefficient() -> None:
    """KL -0.25 is far below the target, so that beta falls by 0.2 * 2 / 10 a round."""
    gae = replace(plain(), kl=rollout.KLControl(0.1, 6.0, 10.0))
    first = gae(given_round(), {})
    assert first.metrics["objective/kl_coef"] == 0.1
    second = gae(given_round(), first.memory)
    assert second.metrics["objective/kl_coef"] == pytest.approx(0.096)
    assert second.memory["kl_coef"] == pytest.approx(0.096 * 0.96)


@pytest.mark.parametrize(
    "kind",
    [plain(missing_end_penalty=2.0), rollout.ValueBaseline(0.1, missing_end_penalty=2.0)],
    ids=["ppo", "reinforce"],
)
def test_a_response_without_its_end_pays(kind: Any) -> None:
    made: rollout.Learnable = kind(given_round(ended=(True, False)), {})
    assert made.advantage_S.tolist() == pytest.approx([1.05, 1.1, 1.0])
    assert made.metrics["objective/scores"] == 2.0
    assert made.metrics["objective/rlhf_reward"] == pytest.approx(1.025)


def test_a_value_baseline() -> None:
    """Rewards -0.05, 1.1 and 3 against values of 0.5."""
    made = rollout.ValueBaseline(0.1)(given_round(value=0.5), {})
    assert made.advantage_S.tolist() == pytest.approx([0.55, 0.6, 2.5])
    assert made.target_S.tolist() == pytest.approx([1.05, 1.1, 3.0])
    halved = rollout.ValueBaseline(0.1, gamma=0.5)(given_round(value=0.5), {})
    assert halved.target_S.tolist() == pytest.approx([-0.05 + 0.55, 1.1, 3.0])


def test_leave_one_out() -> None:
    """Rewards 1 + 0.05 and 3 of one prompt: each against the other."""
    made = rollout.LeaveOneOut(0.1)(given_round(), {})
    assert made.advantage_S.tolist() == pytest.approx([-1.95, -1.95, 1.95])
    assert made.target_S.tolist() == [0, 0, 0]
    assert made.metrics["objective/advantage_size"] == pytest.approx(1.95)
    missing = rollout.LeaveOneOut(0.1, missing_end_penalty=1.0)(given_round(ended=(True, False)), {})
    assert missing.advantage_S.tolist() == pytest.approx([-0.95, -0.95, 0.95])


def test_leave_one_out_of_several() -> None:
    """1, 2 and 6: 1 - 4, 2 - 3.5, 6 - 1.5; and 10 against 20 of another prompt."""
    reward_N, group_N = vector(1, 10, 2, 20, 6), torch.tensor([0, 1, 0, 1, 0])
    assert rollout.over_the_others(reward_N, group_N).tolist() == pytest.approx([-3, -10, -1.5, 10, 4.5])


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("none", [-1, -1, 1]),
        ("group", [-1 / (math.sqrt(2) + 1e-4), -1 / (math.sqrt(2) + 1e-4), 1 / (math.sqrt(2) + 1e-4)]),
        ("round", [-1 / (math.sqrt(2) + 1e-4), -1 / (math.sqrt(2) + 1e-4), 1 / (math.sqrt(2) + 1e-4)]),
    ],
)
def test_advantages_of_a_group(scale: Any, expected: list[float]) -> None:
    """Scores 1 and 3 of one prompt, mean 2, standard deviation sqrt 2; the log-ratios have no part in it."""
    made = rollout.GroupAdvantages(scale)(given_round(), {})
    assert made.advantage_S.tolist() == pytest.approx(expected)
    assert made.metrics["objective/kl"] == pytest.approx(-0.25) and made.metrics["objective/kl_coef"] == 0
    missing = rollout.GroupAdvantages(scale, missing_end_penalty=2.0)(given_round(ended=(True, False)), {})
    assert missing.advantage_S.tolist() == [0, 0, 0]  # alike, so that nothing is learned


def test_groups_are_scaled_each_by_its_own() -> None:
    """0 and 2 of one prompt, 0 and 20 of the other: deviations of sqrt 2 and 10 sqrt 2, of all four together 9.71."""
    length_N, score_N = torch.ones(4, dtype=torch.int64), vector(0, 2, 0, 20)
    log_probs = LogProbs(torch.zeros(4), length_N)
    given = rollout.ScoredRound(
        log_probs, log_probs, score_N, torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
    )
    own = rollout.GroupAdvantages()(given, {}).advantage_S.tolist()
    assert own == pytest.approx([-0.7071, 0.7071, -0.7071, 0.7071], abs=1e-3)
    every = rollout.GroupAdvantages("round")(given, {}).advantage_S.tolist()
    assert every == pytest.approx([value / (score_N.std().item() + 1e-4) for value in (-1, 1, -10, 10)])


def test_leave_one_out_does_not_see_the_level_of_a_prompt() -> None:
    reward_N, group_N = vector(1, 10, 2, 20, 6), torch.tensor([0, 1, 0, 1, 0])
    raised = reward_N + 100 * group_N
    torch.testing.assert_close(rollout.over_the_others(raised, group_N), rollout.over_the_others(reward_N, group_N))
