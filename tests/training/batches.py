"""Micro-batches of every method, made of text as in a run."""

from pathlib import Path
from typing import Any

from runs import KIND, write_feedback
from toys import char_tokenizer, toy_network

from trueup.batch.batch import Batch, collate_batch
from trueup.batch.encode import Encoder, Limits
from trueup.batch.index import Demonstrations
from trueup.batch.mismatch import mismatched
from trueup.batch.tokens import TokenGroup
from trueup.feedback.read import read_feedback
from trueup.feedback.transforms.transform import fit_all
from trueup.feedback.viewed import apply
from trueup.methods import METHODS, Method
from trueup.models.causal import CausalModel
from trueup.training.prepare import prepare
from trueup.training.whole import needs_mismatched

TOKENIZER = char_tokenizer()


def method_groups(
    name: str, folder: Path, count: int = 6
) -> tuple[Method[Any, Any, Any], list[TokenGroup[Any]]]:
    """A method with its default settings, and groups of the feedback that suits it."""
    method = METHODS[name].build()
    examples = read_feedback([write_feedback(folder, count)[KIND[name]]]).examples
    rewritten = fit_all(method.transforms, examples).rewrite(examples)
    encoder = Encoder(TOKENIZER, end_ids=(TOKENIZER.eos_token_id,), limits=Limits(256))
    groups = prepare(apply(method.view, rewritten).groups, encoder, what="training").groups
    return method, list(groups)


def cut_into(
    method: Method[Any, Any, Any], groups: list[TokenGroup[Any]], sizes: list[int]
) -> list[Batch[Any]]:
    """Micro-batches of so many groups each, in order."""
    assert sum(sizes) == len(groups)
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [
        collate_batch(groups[start : start + size], method.collate)
        for start, size in zip(starts, sizes, strict=True)
    ]


def mismatched_of(
    method: Method[Any, Any, Any], groups: list[TokenGroup[Any]], sizes: list[int]
) -> list[Batch[Any]]:
    """Micro-batches of so many prompts each with the responses to the next one, for methods that ask for them."""
    if not needs_mismatched(method):
        return []
    others = sorted(groups, key=lambda group: group.key)
    following = {one.key: other for one, other in zip(others, [*others[1:], others[0]], strict=True)}
    pairs = [mismatched(group, following[group.key], max_length=256) for group in groups]
    made = [pair for pair in pairs if pair is not None]
    assert len(made) == len(groups)
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [
        collate_batch(made[start : start + size], Demonstrations.collate)
        for start, size in zip(starts, sizes, strict=True)
    ]


def text_policy(double: bool = False) -> CausalModel:
    """A toy model of the tokenizer's vocabulary."""
    network = toy_network("llama", vocab_size=len(TOKENIZER)).train()
    return CausalModel(network.double() if double else network)
