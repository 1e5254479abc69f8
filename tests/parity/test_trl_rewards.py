"""The objective of reward models, its gradient and metrics against TRL's RewardTrainer, frozen by freeze_trl.py."""

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
from support.parity import CLOSE, reduced
from support.tiny_models import token_group
from support.tiny_reward_models import reward_network

from trueup.batch.rows import GradedPairs, Pairs, Scores
from trueup.batch.stream import Batch, collate_batch
from trueup.feedback.records import GradedPairRelation, PairRelation
from trueup.models.reward import RewardModel
from trueup.objectives.bradley_terry import bradley_terry
from trueup.objectives.loss import Loss

FROZEN = json.loads((Path(__file__).parent / "trl.json").read_text(encoding="utf-8"))
every_case = pytest.mark.parametrize("case", FROZEN["Reward"])
OURS = {"rewards/accuracies": "accuracy", "rewards/margins": "margin", "rewards/mean": "mean_reward"}


def loss_of(scores: Scores, graded: GradedPairs, case: dict[str, Any]) -> Loss:
    """TRL's margin column is a difference of grades, of which each unit counts 1."""
    centring = case["settings"].get("center_rewards_coefficient", 0.0)
    return bradley_terry(scores, None, graded, margin_per_score=1.0, centring=centring)


@every_case
def test_from_scores(case: dict[str, Any]) -> None:
    score_N = torch.tensor(case["scores"], dtype=torch.float64, requires_grad=True)
    half = len(score_N) // 2
    pairs = Pairs(torch.arange(half), torch.arange(half) + half, torch.ones(half, dtype=torch.float64))
    gap_P = torch.tensor(case["margin"] or [0.0] * half, dtype=torch.float64)
    loss = loss_of(Scores(score_N), GradedPairs(pairs, gap_P), case)
    assert reduced(loss).item() == pytest.approx(case["loss"], **CLOSE)
    (gradient_N,) = torch.autograd.grad(reduced(loss), score_N)
    assert gradient_N.tolist() == pytest.approx(case["gradient"], **CLOSE)
    for ours, theirs in OURS.items():
        assert loss.metrics[ours].mean().item() == pytest.approx(case["metrics"][theirs], **CLOSE)


def batch_of(case: dict[str, Any]) -> Batch[GradedPairs]:
    """Each pair's common beginning as a prompt that is computed once."""
    rows, half = case["rows"], len(case["rows"]) // 2
    groups = []
    for number, (chosen, rejected) in enumerate(zip(rows[:half], rows[half:], strict=True)):
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))))
        relation = GradedPairRelation(PairRelation(((0, 1, 1.0),)), ((case["margin"] or [0.0] * half)[number],))
        assert same >= 3
        groups.append(token_group(chosen[:same], [chosen[same:], rejected[same:]], relation=relation))
    return collate_batch(groups, GradedPairs.collate)


@every_case
def test_from_token_ids(case: dict[str, Any]) -> None:
    model, batch = RewardModel(reward_network(case["seed"])), batch_of(case)
    scores = model.outputs(batch.stream)
    half = len(case["scores"]) // 2
    expected = [score for pair in zip(case["scores"][:half], case["scores"][half:], strict=True) for score in pair]
    assert scores.score_N.tolist() == pytest.approx(expected, abs=1e-4)
    step = reduced(loss_of(scores, batch.index, case))
    assert step.item() == pytest.approx(case["loss"], rel=1e-4)
    step.backward()
    named = dict(model.network.named_parameters())
    assert named.keys() == case["parameters"].keys()
    for name, (length, product) in case["parameters"].items():
        gradient = named[name].grad
        assert gradient is not None
        assert gradient.norm().item() == pytest.approx(length, rel=1e-3), name
        found = (gradient * named[name].detach()).sum().item()
        assert found == pytest.approx(product, abs=1e-3 * length * named[name].norm().item()), name


def test_the_frozen_cases_reach_what_is_to_be_compared() -> None:
    cases = FROZEN["Reward"]
    assert {(bool(case["settings"]), case["margin"] is not None) for case in cases} == {
        (False, False), (True, False), (False, True), (True, True),
    }  # fmt: skip
    assert len({len(case["rows"][0]) for case in cases}) > 1
    assert any(0 < case["metrics"]["accuracy"] < 1 for case in cases)
