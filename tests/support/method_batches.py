"""Micro-batches of every method, made of text as in a run."""

from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch

from support.small_runs import KIND, write_feedback
from support.tiny_models import char_tokenizer, toy_network
from support.tiny_reward_models import reward_network
from trueup.batch.encode import Encoder, Limits
from trueup.batch.rows import Demonstrations
from trueup.batch.stream import Batch, collate_batch
from trueup.batch.tokenizing import tokens_of
from trueup.batch.tokens import TokenGroup, mismatched
from trueup.feedback.read import read_feedback
from trueup.feedback.transforms import fit_all
from trueup.feedback.views import apply
from trueup.methods import METHODS, Method
from trueup.models.causal import CausalModel
from trueup.models.reward import RewardModel
from trueup.references.build import ModelCopy
from trueup.sources.rollouts import Advantages
from trueup.training.step import needs_mismatched

TOKENIZER = char_tokenizer()


def method_groups(name: str, folder: Path, count: int = 6) -> tuple[Method, list[TokenGroup[Any]]]:
    """A method with its default settings, and groups of the feedback that suits it."""
    method = METHODS[name].build()
    examples = read_feedback([write_feedback(folder, count)[KIND[name]]]).examples
    rewritten = fit_all(method.transforms, examples).rewrite(examples)
    encoder = Encoder(TOKENIZER, end_ids=(TOKENIZER.eos_token_id,), limits=Limits(256))
    groups = tokens_of(apply(method.view, rewritten).groups, encoder, what="training")
    if method.rollout is not None:
        policy = text_policy()
        other = CausalModel(toy_network("llama", 1, vocab_size=len(TOKENIZER)))
        with torch.no_grad():  # as if the policy had moved a little since it wrote
            for value in policy.network.parameters():
                value.mul_(0.99)
        ends = encoder.end_ids
        groups, _, _ = Advantages(method.rollout, policy, ModelCopy(other), ends, budget=64)(groups, {})
    return method, groups


def policy_for(method: Method, double: bool = False) -> Any:
    """A toy policy of which the method reads what it needs: log-probabilities, values or scores."""
    if method.output != "scores":
        return text_policy(double)
    network = reward_network(0).train()
    return RewardModel(network.double() if double else network)


def cut_into(method: Method, groups: list[TokenGroup[Any]], sizes: list[int], collate: Any = None) -> list[Batch[Any]]:
    """Micro-batches of so many groups each, in order."""
    assert sum(sizes) == len(groups)
    places = pairwise(accumulate(sizes, initial=0))
    return [collate_batch(groups[start:stop], collate or method.collate) for start, stop in places]


def mismatched_of(method: Method, groups: list[TokenGroup[Any]], sizes: list[int]) -> list[Batch[Any]]:
    """Micro-batches of so many prompts each with the responses to the next one, for methods that ask for them."""
    if not needs_mismatched(method):
        return []
    others = sorted(groups, key=lambda group: group.key)
    following = {one.key: other for one, other in zip(others, [*others[1:], others[0]], strict=True)}
    pairs = [mismatched(group, following[group.key], max_length=256) for group in groups]
    made = [pair for pair in pairs if pair is not None]
    assert len(made) == len(groups)
    return cut_into(method, made, sizes, Demonstrations.collate)


def text_policy(double: bool = False) -> CausalModel:
    """A toy model of the tokenizer's vocabulary, with a value head for methods that read values."""
    policy = CausalModel(toy_network("llama", vocab_size=len(TOKENIZER)).train())
    policy.add_value_head()
    assert policy.value_head is not None
    with torch.no_grad():
        policy.value_head.weight.fill_(0.02)
    if double:
        policy.network.double()
        policy.value_head.double()
    return policy
