"""GRPO and its variants against TRL's own trainer, frozen by freeze_grpo.py: from scores over advantages to the loss
and its gradient, from log-probabilities and from token ids."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.parity import CLOSE, causal, check_from_token_ids, log_probs, reduced
from support.tiny_models import token_group

from trueup.batch.rows import LogProbs, Rollouts
from trueup.batch.stream import collate_batch
from trueup.feedback.records import DemonstrationRelation
from trueup.methods import METHODS
from trueup.methods.method import Method
from trueup.objectives.loss import Loss
from trueup.objectives.rollout import ScoredRound

FROZEN = json.loads((Path(__file__).parent / "grpo.json").read_text(encoding="utf-8"))["GRPO"]
GROUP, LONGEST = 4, 10  # responses to a prompt, and what TRL's `dr_grpo` divides by
NAMES = {
    "beta": "kl_coef", "use_bias_correction_kl": "unbiased_kl", "epsilon": "clip", "epsilon_high": "clip_high",
    "scale_rewards": "advantage_scale", "importance_sampling_level": "sequence_ratio",
    "loss_type": "average_over",
}  # fmt: skip
VALUES: dict[Any, Any] = {
    "batch": "round", "sequence": True, "grpo": "responses", "bnpo": "tokens", "dapo": "tokens", "dr_grpo": "constant",
}  # fmt: skip
every_case = pytest.mark.parametrize(
    ("batch", "case"),
    [
        pytest.param(batch, case, id=f"{number}-{'-'.join(map(str, case['settings'].values()))}")
        for number, batch in enumerate(FROZEN)
        for case in batch["cases"]
    ],
)


def method(case: dict[str, Any]) -> Method[Any, Any, Any]:
    """Ours with TRL's settings, and where they are not given with TRL's own."""
    given = {"beta": 0.0, "use_bias_correction_kl": True, **case["settings"]}
    weights = given.pop("reward_weights", None)
    assert weights is None or len(weights) == 2
    ours = {NAMES[name]: VALUES.get(value, value) for name, value in given.items()}
    return METHODS["grpo"].build(loss_length=float(LONGEST), **ours)


def rollouts(batch: dict[str, Any], case: dict[str, Any], made: Method[Any, Any, Any]) -> Rollouts:
    """The round, made learnable."""
    weights = case["settings"].get("reward_weights", [1.0, 1.0])
    old = log_probs(batch["old"])
    scores = [sum(w * r for w, r in zip(weights, row, strict=True)) for row in batch["rewards"]]
    count = len(scores)
    given = ScoredRound(
        old, old, torch.tensor(scores, dtype=torch.float64), torch.arange(count) // GROUP,
        torch.ones(count, dtype=torch.bool),
    )  # fmt: skip
    assert made.rollout is not None
    learnable = made.rollout(given, {})
    first_N = old.length_N.cumsum(0) - old.length_N
    assert learnable.advantage_S[first_N].tolist() == pytest.approx(case["advantages"], **CLOSE)
    nothing_S = torch.zeros_like(old.token_S)
    return Rollouts(old.token_S, learnable.advantage_S.double(), nothing_S, nothing_S)


@every_case
def test_from_log_probs(batch: dict[str, Any], case: dict[str, Any]) -> None:
    made = method(case)
    policy = log_probs(batch["policy"])
    policy.token_S.requires_grad_()
    reference = log_probs(case["reference"]) if "reference" in case else None
    loss: Loss = made.objective(policy, reference, rollouts(batch, case, made))
    assert reduced(loss).item() == pytest.approx(case["loss"], **CLOSE)
    (gradient,) = torch.autograd.grad(reduced(loss), policy.token_S)
    expected = [value for row in case["gradient"] for value in row]
    assert any(expected)
    assert gradient.tolist() == pytest.approx(expected, **CLOSE)


@every_case
def test_from_token_ids(batch: dict[str, Any], case: dict[str, Any]) -> None:
    made = method(case)
    index = rollouts(batch, case, made)
    groups = [
        token_group(prompt, [response], relation=DemonstrationRelation())
        for prompt, response in zip(batch["prompt"], batch["response"], strict=True)
    ]
    stream = collate_batch(groups, lambda relations, first_rows: index)
    with torch.no_grad():
        reference = causal(batch["reference_seed"]).log_probs(stream.stream)

    def loss(policy: LogProbs) -> Loss:
        return made.objective(policy, reference, index)

    check_from_token_ids(causal(batch["policy_seed"]), stream, loss, case)


def test_the_frozen_rounds_reach_what_is_to_be_compared() -> None:
    """Ratios that are clipped above and below, tokens of a response that are and that are not, unlike lengths."""
    for batch in FROZEN:
        ratio = (log_probs(batch["policy"]).token_S - log_probs(batch["old"]).token_S).exp()
        assert (ratio < 0.8).any() and (ratio > 1.28).any() and ((ratio > 0.9) & (ratio < 1.1)).any()
        pulls = [[value != 0 for value in row] for row in batch["cases"][0]["gradient"]]
        assert any(any(row) and not all(row) for row in pulls)
        assert len({len(row) for row in batch["response"]}) > 3
    settings = {name for case in FROZEN[0]["cases"] for name in case["settings"]}
    assert settings == {*NAMES, "reward_weights"}
