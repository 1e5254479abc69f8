"""A reward model of the world's pairs: right about pairs it has not seen, and close to the reward they come from."""

import json
from pathlib import Path
from statistics import correlation

import pytest
from support.small_runs import metrics_of, run_here

from trueup.annotators.local import load_reward_annotator
from trueup.feedback.records import Example
from trueup.settings.annotator_kinds import RewardAnnotator
from trueup.world.generate import from_name
from trueup.world.language import gold

pytestmark = [pytest.mark.slow, pytest.mark.many, pytest.mark.world]


def test_a_short_run_learns_what_is_better(tmp_path: Path) -> None:
    output = tmp_path / "rm"
    values = {
        "model": "world", "data": ["world:pairs?count=2500"], "output": str(output), "eval_fraction": 0.2,
        "steps": 500, "batch_size": 16, "learning_rate": 2e-3, "warmup_ratio": 0.1, "save_every": 1000,
    }  # fmt: skip
    run_here("reward-model", values)
    assert metrics_of(output)[-1]["eval_rewards/accuracies"] >= 0.8
    calibration = json.loads((output / "calibration.json").read_text())
    assert calibration["brier"]["value"] + 3 * calibration["brier"]["error"] < 0.25
    judge = load_reward_annotator(RewardAnnotator(str(output / "model")), device="cpu")
    asked = from_name("world:rankings?count=100&seed=77")
    scores, rewards = [], []
    for example in judge.annotate(asked).examples:
        assert isinstance(example, Example)
        scores += [float(one.score or 0) for one in example.responses]
        rewards += [gold(str(example.prompt.content), str(one.content)) for one in example.responses]
    assert correlation(scores, rewards) > 0.6
