"""A toy policy of each parametrization, toy pairs, and a short training without a folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from support.tiny_models import token_group, toy_network
from trueup import methods
from trueup.batch.rows import Pairs
from trueup.batch.stream import Batch
from trueup.feedback.records import PairRelation
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.references.build import build
from trueup.references.reference import Reference
from trueup.sources.source import Batching, OfflineSource
from trueup.training.optimizer import Optimizer
from trueup.training.step import train_step

WEIGHTS = ("full", "lora", "started")
"""Every parameter; a fresh adapter, whose B is 0; an adapter that was trained before."""
RANK = 3


def make_policy(weights: str = "full", seed: int = 0, dropout: float = 0.0, **changes: Any) -> CausalModel:
    """Random, and the same for the same seed."""
    network = toy_network("llama", seed)
    if weights != "full":
        network = lora.add_lora(network, rank=RANK, alpha=6.0, dropout=dropout, targets="all-linear", base="toy")
    if weights == "started":
        torch.manual_seed(seed + 1)
        disturb(network)
    return CausalModel(network.train(), **changes)


@torch.no_grad()
def disturb(network: Any) -> None:
    """Move whatever can be trained, by a good deal."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn_like(parameter))


def make_source(count: int = 12, held_out: int = 3, **changes: Any) -> OfflineSource:
    """Pairs of random tokens: two passes of three steps, two micro-batches a step."""
    groups = [
        token_group(3 + seed % 3, [2 + seed % 2, 4], seed, relation=PairRelation(((0, 1, 1.0),)))
        for seed in range(count + held_out)
    ]
    values = {"batch_size": 4, "budget": 24, "pairing": None, "seed": 0, "total": 2 * count, **changes}
    batching = Batching(Pairs.collate, values.pop("budget"), values.pop("pairing"))
    return OfflineSource(groups[:count], groups[count:], batching, **values)


@dataclass
class Training:
    """DPO, step by step."""

    policy: CausalModel
    choice: Any
    weights: str = "full"
    source: OfflineSource = field(default_factory=make_source)
    make: Callable[..., Reference] = build
    begin: bool = True  # false leaves the reference to be restored

    def __post_init__(self) -> None:
        self.reference = self.make(
            self.choice, self.policy, starts_from_adapter=self.weights == "started", offline=True
        )
        if self.begin:
            self.reference.start(self.source)
        self.optimizer = Optimizer(self.policy.network)
        self.step = 0

    def advance(self, steps: int = 1) -> list[bool]:
        """Take steps; whether the reference moved after each."""
        return [self._advance() for _ in range(steps)]

    def _advance(self) -> bool:
        self.step += 1
        data = self.source.step(self.step)
        train_step(
            self.policy, self.reference, methods.dpo(), data, self.optimizer, step=self.step,
            learning_rate=1e-2,
        )  # fmt: skip
        return self.reference.update(self.step, self.source)


@torch.no_grad()
def token_log_probs(model: CausalModel | Reference, batches: Sequence[Batch[Any]]) -> torch.Tensor:
    """Of a policy or a reference, one batch after the other."""
    found = [model.log_probs(batch.stream if isinstance(model, CausalModel) else batch) for batch in batches]
    return torch.cat([one.token_S for one in found])


@contextmanager
def forwards() -> Iterator[list[CausalModel]]:
    """The models that compute log-probabilities while the block runs, once for each forward pass."""
    seen: list[CausalModel] = []
    original = CausalModel.hidden

    def hidden(self: CausalModel, stream: Any) -> torch.Tensor:
        seen.append(self)
        return original(self, stream)

    CausalModel.hidden = hidden  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        CausalModel.hidden = original  # type: ignore[method-assign]
