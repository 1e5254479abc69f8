"""A round measured under policy and reference: nothing mixed up, nothing lost, the same however it is cut."""

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from support.policies import make_policy
from support.small_runs import stopping_at
from support.tiny_models import EOS, char_tokenizer, token_group, toy_network

from trueup.batch.encode import Encoder, Limits
from trueup.batch.rows import LogProbs, Rollouts
from trueup.batch.stream import Batch, build_stream, collate_batch
from trueup.batch.tokens import TokenGroup
from trueup.errors import CheckpointError, NumericsError, Stopped
from trueup.feedback.records import Example, Origin, Prompt, RankRelation, Response
from trueup.models.causal import CausalModel
from trueup.objectives.rollout import GeneralisedAdvantages, KLControl, Learnable, ScoredRound
from trueup.references.build import DisabledAdapter
from trueup.references.reference import NullReference
from trueup.sources.rollouts import Advantages, KLPenalty, from_tensors, to_tensors

GROUPS = [
    token_group(6, [3, 2], 0, RankRelation((1.0, -1.0)), Origin("examples.jsonl", 1)),
    token_group(3, [[5, 6, EOS], [7, EOS, 8], [EOS]], 1, RankRelation((0.5, 2.0, 0.0)), Origin("examples.jsonl", 2)),
    token_group(4, [4], 2, RankRelation((3.0,)), Origin("examples.jsonl", 3)),
]
"""The second is the shortest, so that cutting by length changes the order."""


class Other:
    """A reference of other weights."""

    identity, exact = "other", True

    def __init__(self, seed: int = 1) -> None:
        self.model = CausalModel(toy_network(seed=seed))

    @torch.no_grad()
    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        return self.model.log_probs(batch.stream)


def valued() -> CausalModel:
    policy = CausalModel(toy_network().train())
    policy.add_value_head()
    assert policy.value_head is not None
    with torch.no_grad():
        policy.value_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    return policy


def seen(groups: list[TokenGroup[Any]], policy: CausalModel, reference: Any, budget: int = 1000) -> ScoredRound:
    """What a rollout is given."""
    found: list[ScoredRound] = []

    def rollout(given: ScoredRound, memory: Mapping[str, float]) -> Learnable:
        found.append(given)
        zero_S = torch.zeros_like(given.log_probs.token_S)
        return Learnable(zero_S, zero_S, {})

    Advantages(rollout, policy, reference, {EOS}, budget)(groups, {})
    return found[0]


@pytest.mark.parametrize("budget", [1, 14, 1000])
def test_a_round_is_in_the_order_of_its_groups(budget: int) -> None:
    policy, reference = valued(), Other()
    given = seen(GROUPS, policy, reference, budget)
    stream = build_stream(GROUPS)
    with torch.no_grad():
        ours, theirs = policy.outputs(stream, policy.parts), reference.model.log_probs(stream)
    assert given.reference is not None and given.log_probs.value_S is not None and ours.value_S is not None
    torch.testing.assert_close(given.log_probs.token_S, ours.token_S, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(given.log_probs.value_S, ours.value_S, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(given.reference.token_S, theirs.token_S, rtol=1e-4, atol=1e-4)
    assert given.log_probs.length_N.tolist() == [3, 2, 3, 3, 1, 4]
    assert given.score_N.tolist() == [1, -1, 0.5, 2, 0, 3] and given.score_N.dtype == torch.float64
    assert given.group_N.tolist() == [0, 0, 1, 1, 1, 2]
    assert given.ended_N.tolist() == [False, False, True, False, True, False]  # an end in the middle is none
    assert not given.log_probs.token_S.requires_grad and not given.log_probs.value_S.requires_grad


def test_without_reference_and_values_there_are_none() -> None:
    given = seen(GROUPS, CausalModel(toy_network()), NullReference())
    assert given.reference is None and given.log_probs.value_S is None


PPO = GeneralisedAdvantages(KLControl(0.1, 6.0))


def learned(budget: int = 1000, memory: Mapping[str, float] | None = None) -> Any:
    return Advantages(PPO, valued(), Other(), {EOS}, budget)(GROUPS, memory or {})  # type: ignore[arg-type]


def test_every_response_gets_its_own_part() -> None:
    """Old log-probabilities and values are the policy's own; what a batch is given is what its rows hold."""
    groups, _, _ = learned()
    assert [len(group.relation.rows) for group in groups] == [2, 3, 1]
    assert [group.origin for group in groups] == [group.origin for group in GROUPS]
    turned = [groups[2], groups[0]]
    batch = collate_batch(turned, Rollouts.collate)
    with torch.no_grad():
        ours = valued().outputs(batch.stream, ("values",))
    assert ours.value_S is not None
    torch.testing.assert_close(batch.index.old_log_prob_S, ours.token_S, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(batch.index.old_value_S, ours.value_S, rtol=1e-4, atol=1e-4)
    assert batch.index.advantage_S.tolist()[:4] == groups[2].relation.rows[0].advantage.tolist()


def test_memory_goes_in_and_comes_out() -> None:
    _, metrics, _ = learned(memory={"kl_coef": 0.5})
    assert metrics["objective/kl_coef"] == 0.5


def test_dropout_is_off_while_a_round_is_measured() -> None:
    policy = valued()
    policy.network.config.attention_dropout = 0.9
    for module in policy.network.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.9
    given, again = (seen(GROUPS, policy, NullReference()) for _ in range(2))
    assert torch.equal(given.log_probs.token_S, again.log_probs.token_S)
    assert policy.network.training


def test_what_is_known_of_scores_is_known_with_the_penalty_of_a_missing_end() -> None:
    """The third and the fifth response end; 2 is taken off the scores 1, -1, 2 and 3 of the others."""
    rollout = GeneralisedAdvantages(KLControl(0.1), missing_end_penalty=2.0)
    _, _, memory = Advantages(rollout, valued(), Other(), {EOS}, 1000)(GROUPS, {})
    penalised = [-1.0, -3.0, 0.5, 0.0, 0.0, 1.0]
    assert memory["score_count"] == 6
    assert memory["score_mean"] == pytest.approx(statistics.fmean(penalised))
    assert memory["score_squares"] == pytest.approx(5 * statistics.variance(penalised))


def test_the_penalty_in_the_reward_is_measured_without_dropout() -> None:
    """On an adapter that has moved: a fresh one adds nothing, and drops nothing either."""
    encoder = Encoder(char_tokenizer(), end_ids=(1,), limits=Limits(64))
    examples = [Example(Prompt("ab"), (Response("ba", score=1.0), Response("abb", score=0.0)))]
    found = []
    for dropout in (0.0, 0.9):
        policy = make_policy("started", dropout=dropout)
        penalise = KLPenalty(0.5, policy, DisabledAdapter(policy), encoder, budget=64)
        (made,), facts = penalise(examples)
        found.append(([one.score for one in made.responses], facts["objective/kl"]))
        assert policy.network.training
    assert found[0] == found[1]
    assert found[0][0][0] not in (None, 1.0)


def test_a_saved_round_is_the_same_bit_for_bit() -> None:
    groups, _, _ = learned()
    saved = to_tensors(groups)
    assert {name: tensor.dtype for name, tensor in saved.items()} == dict.fromkeys(saved, torch.float32)
    restored = from_tensors(GROUPS, saved)
    for one, other in zip(groups, restored, strict=True):
        assert one.key == other.key and one.origin == other.origin
        for row, again in zip(one.relation.rows, other.relation.rows, strict=True):
            for name in saved:
                assert np.array_equal(getattr(row, name), getattr(again, name))


def test_a_round_of_other_responses_is_not_taken_for_this_one() -> None:
    saved = to_tensors(learned()[0])
    with pytest.raises(CheckpointError, match=r"holds \[16\] tokens, and its responses have 13"):
        from_tensors([*GROUPS[:2], token_group(4, [1], 2)], saved)
    with pytest.raises(CheckpointError, match="it is of another log"):
        from_tensors(GROUPS, {name: tensor for name, tensor in saved.items() if name != "target"})


@pytest.mark.parametrize("budget", [1, 1000])
@pytest.mark.parametrize(
    ("part", "what"),
    [("head", "value"), ("network", "log-probability"), ("reference", "log-probability under the reference")],
)
def test_numbers_that_are_not_finite_name_their_responses(part: str, what: str, budget: int) -> None:
    """The token 63 is only in one response, and only what follows it can be spoiled by its embedding."""
    group = token_group(4, [[9, 63, 5], [9, 9]], 2, RankRelation((3.0, 1.0)), Origin("examples.jsonl", 3))
    policy, reference = valued(), Other()
    network = reference.model.network if part == "reference" else policy.network
    with torch.no_grad():
        network.model.embed_tokens.weight[63] = float("nan")
        if part == "head":
            network.model.embed_tokens.weight[63] = 1.0
            policy.value_head.weight.fill_(float("inf"))  # type: ignore[union-attr]
    names = "response 1 of examples.jsonl:3"
    if part == "head":
        names = r"response 1 of examples.jsonl:1, response 1 of examples.jsonl:3.*|response 1 of examples.jsonl:.*"
    with pytest.raises(NumericsError, match=rf"the {what} of {names} is not finite \((nan|inf|-inf)\)"):
        Advantages(PPO, policy, reference, {EOS}, budget)([GROUPS[0], group], {})  # type: ignore[arg-type]


def test_an_advantage_that_is_not_finite_is_refused() -> None:
    def rollout(given: ScoredRound, memory: Mapping[str, float]) -> Learnable:
        zero_S = torch.zeros_like(given.log_probs.token_S)
        return Learnable(zero_S.index_fill(0, torch.tensor([3]), float("nan")), zero_S, {})

    with pytest.raises(NumericsError, match=r"the advantage of response 2 of examples.jsonl:1 is not finite"):
        Advantages(rollout, valued(), NullReference(), {EOS}, 1000)(GROUPS, {})


def test_a_stop_is_noticed_between_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = stopping_at(monkeypatch, 2)
    with pytest.raises(Stopped):
        learned(budget=1)
    assert len(looks) == 2
