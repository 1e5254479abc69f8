"""How the frozen numbers of another program are compared with ours, from token ids through our stream and head."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from support.tiny_models import char_tokenizer, toy_network
from trueup.batch.rows import LogProbs
from trueup.batch.stream import Batch
from trueup.models.causal import CausalModel
from trueup.objectives.loss import Loss

CLOSE = dict(rel=1e-5, abs=1e-6)  # TRL computed in float32


def reduced(loss: Loss) -> Tensor:
    return loss.per_example.sum() / loss.weight.sum()


def log_probs(tokens: Sequence[Sequence[float]]) -> LogProbs:
    """In float64, of the values of each row."""
    flat = torch.tensor([value for row in tokens for value in row], dtype=torch.float64)
    return LogProbs(flat, torch.tensor(list(map(len, tokens))))


def causal(seed: int) -> CausalModel:
    return CausalModel(toy_network("llama", seed, vocab_size=len(char_tokenizer())))


def check_from_token_ids(
    model: CausalModel, batch: Batch[Any], loss: Callable[[LogProbs], Loss | Tensor], case: Any
) -> None:
    """The step's loss, and of each parameter's gradient the length and the product with the parameter."""
    made = loss(model.outputs(batch.stream, ("collision",)))
    step = reduced(made) if isinstance(made, Loss) else made
    assert step.item() == pytest.approx(case["loss"], rel=3e-5)
    step.backward()
    found = {
        name: [value.grad.norm().item(), (value.grad * value.detach()).sum().item()]
        for name, value in model.network.named_parameters()
        if value.grad is not None
    }
    assert found.keys() == case["parameters"].keys()
    for name, (length, product) in case["parameters"].items():
        size = dict(model.network.named_parameters())[name].norm().item()
        assert found[name][0] == pytest.approx(length, rel=1e-4), name
        assert found[name][1] == pytest.approx(product, abs=1e-4 * length * size), name
