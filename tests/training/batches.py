"""Micro-batches of every method, made of text as in a run."""

from pathlib import Path
from typing import Any

from runs import KIND, write_feedback
from toys import char_tokenizer, toy_network

from trueup.batch.batch import Batch, collate_batch
from trueup.batch.encode import Encoder, Limits
from trueup.batch.tokens import TokenGroup
from trueup.feedback.read import read_feedback
from trueup.feedback.viewed import apply
from trueup.methods import METHODS, Method
from trueup.models.causal import CausalModel
from trueup.training.prepare import prepare

TOKENIZER = char_tokenizer()


def method_groups(
    name: str, folder: Path, count: int = 6
) -> tuple[Method[Any, Any, Any], list[TokenGroup[Any]]]:
    """A method with its default settings, and groups of the feedback that suits it."""
    method = METHODS[name].build()
    examples = read_feedback([write_feedback(folder, count)[KIND[name]]]).examples
    encoder = Encoder(TOKENIZER, end_ids=(TOKENIZER.eos_token_id,), limits=Limits(256))
    groups = prepare(apply(method.view, examples).groups, encoder, what="training").groups
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


def text_policy(double: bool = False) -> CausalModel:
    """A toy model of the tokenizer's vocabulary."""
    network = toy_network("llama", vocab_size=len(TOKENIZER)).train()
    return CausalModel(network.double() if double else network)
