"""What policy-gradient methods are given as settings is what they compute with, and where they learn from."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from trueup.batch.rows import LogProbs, Rollouts
from trueup.errors import InputError
from trueup.methods import METHODS
from trueup.objectives.ppo import ppo
from trueup.objectives.reinforce import reinforce
from trueup.objectives.rollout import GeneralisedAdvantages, KLControl, LeaveOneOut, ValueBaseline

NAMES = ("ppo", "reinforce", "rloo")
POLICY = LogProbs(
    torch.tensor([-1.0, -0.2, -2.0]), torch.tensor([2, 1]), None, torch.tensor([0.4, -0.3, 1.0])
)
INDEX = Rollouts(
    torch.tensor([-1.3, -0.1, -2.4]), torch.tensor([1.0, -1.0, 2.0]), torch.tensor([1.0, -1.0, 0.5]),
    torch.tensor([0.0, 0.1, 0.2]),
)  # fmt: skip

EVERY_PPO: dict[str, Any] = {
    "kl_coef": 0.3, "kl_target": 2.0, "kl_horizon": 50.0, "gamma": 0.9, "gae_lambda": 0.8, "scale_scores": False,
    "clip_reward": 3.0, "missing_end_penalty": 0.7, "whiten_rewards": True, "whiten_advantages": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        (
            "ppo",
            {},
            GeneralisedAdvantages(KLControl(0.05, 6.0, 10_000.0), 1.0, 0.95, True, 10.0, 0.0, False, True),
        ),
        (
            "ppo",
            EVERY_PPO,
            GeneralisedAdvantages(KLControl(0.3, 2.0, 50.0), 0.9, 0.8, False, 3.0, 0.7, True, False),
        ),
        ("ppo", {"kl_target": 0, "clip_reward": 0}, GeneralisedAdvantages(KLControl(0.05), clip_reward=None)),
        (
            "ppo",
            {"kl_target": None, "clip_reward": None},
            GeneralisedAdvantages(KLControl(0.05), clip_reward=None),
        ),
        ("reinforce", {}, ValueBaseline(0.05, 1.0, 0.0)),
        (
            "reinforce",
            {"kl_coef": 0.3, "gamma": 0.9, "missing_end_penalty": 0.7},
            ValueBaseline(0.3, 0.9, 0.7),
        ),
        ("rloo", {}, LeaveOneOut(0.03, 0.0)),
        ("rloo", {"kl_coef": 0.3, "missing_end_penalty": 0.7}, LeaveOneOut(0.3, 0.7)),
    ],
)
def test_a_setting_of_the_rewards_arrives(name: str, settings: dict[str, Any], expected: Any) -> None:
    assert METHODS[name].build(**settings).rollout == expected


def test_a_setting_of_the_objective_arrives() -> None:
    made = METHODS["ppo"].build(clip=0.25, value_clip=0.35, value_weight=0.6)
    wanted = ppo(POLICY, None, INDEX, clip=0.25, value_clip=0.35, value_weight=0.6)
    assert torch.equal(made.objective(POLICY, None, INDEX).per_example, wanted.per_example)  # type: ignore[call-arg, union-attr]
    others = [{"clip": 0.35}, {"value_clip": 0.25}, {"value_weight": 0.5}]
    for other in others:
        changed = ppo(POLICY, None, INDEX, **{"clip": 0.25, "value_clip": 0.35, "value_weight": 0.6, **other})
        assert not torch.equal(changed.per_example, wanted.per_example)
    explored = replace(POLICY, entropy_S=torch.ones_like(POLICY.token_S))
    made = METHODS["ppo"].build(entropy_coef=0.2)
    wanted = ppo(explored, None, INDEX, entropy_coef=0.2)
    assert torch.equal(made.objective(explored, None, INDEX).per_example, wanted.per_example)  # type: ignore[call-arg, union-attr]
    assert made.parts == ("values", "entropy")
    made = METHODS["reinforce"].build(value_weight=0.6)
    wanted = reinforce(POLICY, None, INDEX, value_weight=0.6)
    assert torch.equal(made.objective(POLICY, None, INDEX).per_example, wanted.per_example)  # type: ignore[call-arg, union-attr]


@pytest.mark.parametrize("name", NAMES)
def test_they_learn_from_scores_of_their_own_responses(name: str) -> None:
    info = METHODS[name]
    assert info.sources == ("online", "replay") and info.needs_scores
    assert info.defaults["source"] == "online"
    made = info.build()
    assert not made.reference_in_loss
    assert made.parts == (() if name == "rloo" else ("values",))


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
