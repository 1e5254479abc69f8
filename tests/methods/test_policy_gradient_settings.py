"""What policy-gradient methods are given as settings is what they compute with, and where they learn from."""

from typing import Any

import pytest

from trueup.errors import InputError
from trueup.methods import METHODS
from trueup.objectives.rollout import GeneralisedAdvantages, GroupAdvantages, KLControl, LeaveOneOut, ValueBaseline

NAMES = ("grpo", "ppo", "reinforce", "rloo")
EVERY_PPO: dict[str, Any] = {
    "kl_coef": 0.3, "kl_target": 2.0, "kl_horizon": 50.0, "gamma": 0.9, "gae_lambda": 0.8, "scale_scores": False,
    "clip_reward": 3.0, "missing_end_penalty": 0.7, "whiten_rewards": True, "whiten_advantages": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("ppo", {},
         GeneralisedAdvantages(KLControl(0.05, 6.0, 10_000.0), 1.0, 0.95, True, 10.0, 0.0, False, True)),
        ("ppo", EVERY_PPO,
         GeneralisedAdvantages(KLControl(0.3, 2.0, 50.0), 0.9, 0.8, False, 3.0, 0.7, True, False)),
        ("ppo", {"kl_target": 0, "clip_reward": 0}, GeneralisedAdvantages(KLControl(0.05), clip_reward=None)),
        ("ppo", {"kl_target": None, "clip_reward": None},
         GeneralisedAdvantages(KLControl(0.05), clip_reward=None)),
        ("reinforce", {}, ValueBaseline(0.05, 1.0, 0.0)),
        ("reinforce", {"kl_coef": 0.3, "gamma": 0.9, "missing_end_penalty": 0.7},
         ValueBaseline(0.3, 0.9, 0.7)),
        ("rloo", {}, LeaveOneOut(0.03, 0.0)),
        ("grpo", {}, GroupAdvantages("group", 0.0)),
        ("grpo", {"advantage_scale": "none", "missing_end_penalty": 0.7}, GroupAdvantages("none", 0.7)),
        ("rloo", {"kl_coef": 0.3, "missing_end_penalty": 0.7}, LeaveOneOut(0.3, 0.7)),
    ],
)  # fmt: skip
def test_a_setting_of_the_rewards_arrives(name: str, settings: dict[str, Any], expected: Any) -> None:
    assert METHODS[name].build(**settings).rollout == expected


@pytest.mark.parametrize("name", NAMES)
def test_they_learn_from_scores_of_their_own_responses(name: str) -> None:
    info = METHODS[name]
    assert info.sources == ("online", "replay") and info.needs_scores
    assert info.defaults["source"] == "online"
    made = info.build()
    assert made.reference_in_loss == (name == "grpo")
    assert made.parts == (("values",) if name in ("ppo", "reinforce") else ())
    assert not METHODS["grpo"].build(kl_coef=0.0).reference_in_loss


def test_entropies_are_read_where_there_is_a_bonus_for_them() -> None:
    assert METHODS["ppo"].build(entropy_coef=0.2).parts == ("values", "entropy")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ppo", {"clip": 0.0}, "clip must be greater than 0"),
        ("ppo", {"gae_lambda": 1.1}, "gae_lambda must be at most 1"),
        ("ppo", {"kl_coef": -0.1}, "kl_coef must be at least 0"),
        ("ppo", {"kl_target": -1.0}, "kl_target must be at least 0"),
        ("reinforce", {"gamma": -0.5}, "gamma must be at least 0"),
        ("rloo", {"missing_end_penalty": -1.0}, "missing_end_penalty must be at least 0"),
        ("rloo", {"clip": 0.2}, "clip"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        METHODS[name].build(**settings)
