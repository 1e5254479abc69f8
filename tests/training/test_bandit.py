"""A bandit: one prompt, responses of one token, a reward for each."""

from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_models import EOS, VOCABULARY, toy_network

from trueup import methods
from trueup.batch.stream import collate_batch
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.feedback.records import RankRelation
from trueup.methods import Method
from trueup.models.causal import CausalModel
from trueup.references.build import build
from trueup.references.reference import NullReference
from trueup.sources.rollouts import Advantages
from trueup.sources.source import Step
from trueup.training.optimizer import Optimizer
from trueup.training.step import train_step

PROMPT = np.array([1, 7, 9], np.int32)
REWARD_V = torch.linspace(-1, 1, VOCABULARY).sort(descending=True).values
"""Of each token: those with low numbers are the better ones."""
ROUND = 64


def probabilities(policy: CausalModel) -> torch.Tensor:
    """[V] of the next token, exactly: one group of all tokens."""
    rows = tuple(TokenRow(np.array([token], np.int32), np.ones(1, np.bool_)) for token in range(VOCABULARY))
    batch = collate_batch([TokenGroup(PROMPT, rows, None)], lambda relations, first_rows: None)
    with torch.no_grad(), policy.without_dropout():
        return policy.log_probs(batch.stream).token_S.exp()


def write(policy: CausalModel, responses: int, generator: torch.Generator) -> list[TokenGroup[RankRelation]]:
    """A round: as many groups as give 64 responses."""
    drawn = torch.multinomial(probabilities(policy), ROUND, replacement=True, generator=generator)
    groups = []
    for part in drawn.split(responses):
        rows = tuple(TokenRow(np.array([token], np.int32), np.ones(1, np.bool_)) for token in part.tolist())
        groups.append(TokenGroup(PROMPT, rows, RankRelation(tuple(REWARD_V[part].tolist()))))
    return groups


def train(method: Method, *, responses: int, passes: int, rounds: int) -> tuple[float, list[Any]]:
    """The expected reward in the end, and the metrics of every round."""
    policy = CausalModel(toy_network(num_hidden_layers=1))
    with torch.no_grad():
        for value in policy.network.parameters():
            value.mul_(0.3)  # of much entropy, as a policy should be that is to explore
    if "values" in method.parts:
        policy.add_value_head()
    reference = build(method.reference, policy, starts_from_adapter=False, offline=False)
    reference.start(None)  # type: ignore[arg-type]
    optimizer = Optimizer(policy.trainable())
    generator = torch.Generator().manual_seed(0)
    memory, told = {}, []
    assert method.rollout is not None
    for number in range(rounds):
        advantages = Advantages(method.rollout, policy, reference, {EOS}, budget=999)
        groups, metrics, memory = advantages(write(policy, responses, generator), memory)  # type: ignore[assignment]
        for _ in range(passes):
            batch = collate_batch(groups, method.collate)
            step = train_step(
                policy, NullReference(), method, Step([batch]), optimizer, step=number + 1, learning_rate=3e-3
            )
        told.append({**metrics, **step})
    return (probabilities(policy) @ REWARD_V).item(), told


def test_a_strong_penalty_holds_the_policy() -> None:
    free, held = (
        train(methods.rloo(kl_coef=kl_coef), responses=4, passes=1, rounds=20)[1][-1] for kl_coef in (0.0, 2.0)
    )
    assert held["objective/kl"] < free["objective/kl"] / 4


@pytest.mark.slow
def test_the_value_head_comes_to_expect_the_reward() -> None:
    after, told = train(methods.ppo(kl_coef=0.0, scale_scores=False), responses=1, passes=3, rounds=25)
    assert told[0]["val/mean"] == 0
    assert told[-1]["val/mean"] == pytest.approx(told[-1]["objective/scores"], abs=0.25)
    assert after > 0.4


def test_several_passes_move_the_policy_within_a_round() -> None:
    """At the first pass the ratio is 1; by the last it is not, and some of it is clipped."""
    told = train(methods.ppo(kl_coef=0.0), responses=1, passes=4, rounds=6)[1]
    assert max(one["policy/clipfrac"] for one in told) > 0
    assert all(one["policy/approxkl"] > 0 for one in told)
    once = train(methods.ppo(kl_coef=0.0), responses=1, passes=1, rounds=3)[1]
    assert all(one["policy/ratio"] == pytest.approx(1, abs=1e-5) for one in once)
