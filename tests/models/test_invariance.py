"""The loss and gradient of a batch do not depend on its order, nor on how it is cut into micro-batches."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.tiny_models import gradients, token_group, toy_network
from torch import Tensor

from trueup.batch.index import Demonstrations, Pairs, Rankings
from trueup.batch.logprobs import LogProbs
from trueup.batch.stream import collate_batch, cut
from trueup.batch.tokens import TokenGroup
from trueup.feedback.records import DemonstrationRelation, PairRelation, RankRelation
from trueup.models.causal import CausalModel
from trueup.objectives.dpo import dpo
from trueup.objectives.loss import Loss
from trueup.objectives.rrhf import rrhf
from trueup.objectives.sft import sft

SHAPES = [(5, [3, 7]), (60, [20, 4, 9]), (1, [12, 12]), (33, [40, 2]), (8, [8, 8, 8]), (20, [1, 30])]


@dataclass(frozen=True)
class Task:
    relation: Callable[[int], Any]
    """From the number of responses."""
    collate: Callable[..., Any]
    objective: Callable[[LogProbs, Any, Any], Loss]
    reference: bool = False


TASKS = {
    "sft": Task(lambda size: DemonstrationRelation(), Demonstrations.collate, sft),
    "dpo": Task(
        lambda size: PairRelation(tuple((at, at - 1, 1.0) for at in range(1, size))),
        Pairs.collate, dpo, reference=True,
    ),
    "rrhf": Task(lambda size: RankRelation(tuple(map(float, range(size)))), Rankings.collate, rrhf),
}  # fmt: skip


def step(
    task: Task, micro_batches: list[list[TokenGroup[Any]]], layout: str
) -> tuple[float, dict[str, Tensor]]:
    """Mean loss of a batch and its gradient, summed over micro-batches."""
    network, reference = toy_network("llama"), CausalModel(toy_network("llama", seed=1), attention=layout)
    model = CausalModel(network, attention=layout)
    total = weight = 0.0
    grads: dict[str, Tensor] = {}
    for groups in micro_batches:
        batch = collate_batch(groups, task.collate)
        with torch.no_grad():
            given = reference.log_probs(batch.stream) if task.reference else None
        loss = task.objective(model.log_probs(batch.stream), given, batch.index)
        total += loss.per_example.double().sum().item()
        weight += loss.weight.double().sum().item()
        for name, grad in gradients(network, loss.per_example.sum()).items():
            grads[name] = grads.get(name, torch.zeros_like(grad)) + grad
    return total / weight, {name: grad / weight for name, grad in grads.items()}


@pytest.mark.parametrize("layout", ["grouped", "padded"])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_order_budget_and_accumulation_do_not_matter(task: Task, layout: str) -> None:
    groups = [
        token_group(prompt, responses, seed, task.relation(len(responses)))
        for seed, (prompt, responses) in enumerate(SHAPES)
    ]
    loss, grads = step(task, [groups], layout)
    norm = torch.stack([grad.norm() for grad in grads.values()]).norm()
    shuffled = random.Random(0).sample(groups, len(groups))
    ways = {
        "reversed": [groups[::-1]],
        "shuffled": [shuffled],
        "split": [groups[:1], groups[1:4], groups[4:]],
        "one by one": [[group] for group in shuffled],
        **{f"budget {budget}": list(cut(shuffled, budget)) for budget in (1, 60, 150, 10**6)},
    }
    assert len(ways["budget 60"]) > 2
    for way, micro_batches in ways.items():
        again, regrads = step(task, micro_batches, layout)
        # float32 sums in another order: 1e-7 each, measured up to 1e-6.
        assert again == pytest.approx(loss, rel=1e-5), way
        for name, grad in grads.items():
            assert (regrads[name] - grad).norm() <= 1e-5 * max(grad.norm(), 0.01 * norm), (way, name)
