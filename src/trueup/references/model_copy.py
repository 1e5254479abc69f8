"""References under full fine-tuning: a second model, frozen or following the policy, or scalars in its place."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trueup.batch.logprobs import LogProbs
from trueup.batch.stream import Batch
from trueup.models.causal import CausalModel, model_identity, moved_identity
from trueup.references.choices import TrustRegion
from trueup.references.reference import BatchSource, State
from trueup.references.table import Table


class ModelCopy:
    """A copy of the policy's weights.

    Args:
        policy: what is copied when the run starts, and followed afterwards.
        region: how it follows; None keeps it frozen.
    """

    exact = True

    def __init__(self, policy: CausalModel, region: TrustRegion | None = None) -> None:
        self.policy = policy
        self.region = region
        self.identity = ""
        self._model: CausalModel | None = None

    @property
    def model(self) -> CausalModel:
        """The copy; made on first use so that a restored one is not made twice."""
        if self._model is None:
            network = copy.deepcopy(self.policy.network).requires_grad_(False)
            self._model = CausalModel(network, attention=self.policy.attention, autocast=self.policy.autocast)
        return self._model

    def start(self, source: BatchSource) -> None:
        self.identity = model_identity(self.model.network)

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        with torch.no_grad():
            return self.model.log_probs(batch.stream)

    def update(self, step: int, source: BatchSource) -> bool:
        if self.region is None or not self.region.due(step):
            return False
        interpolate_(
            list(self.model.network.parameters()), list(self.policy.network.parameters()), self.region.alpha
        )
        self.identity = moved_identity(self.identity, step)
        return True

    def state(self) -> State:
        return State(dict(self.model.network.named_parameters()), {"identity": self.identity})

    def restore(self, state: State) -> None:
        with torch.no_grad():
            for name, parameter in self.model.network.named_parameters():
                parameter.copy_(state.tensors[name])
        self.identity = str(state.facts["identity"])


@torch.no_grad()
def interpolate_(reference: Sequence[Tensor], policy: Sequence[Tensor], alpha: float) -> None:
    """theta_ref <- alpha theta + (1 - alpha) theta_ref, in place and in float32; alpha = 1 copies."""
    if alpha == 1:
        for old, new in zip(reference, policy, strict=True):
            old.copy_(new)
        return
    torch._foreach_lerp_(list(reference), [tensor.detach() for tensor in policy], alpha)


class LookAhead:
    """reference <- policy every `region.every` steps, as scalars.

    At a synchronisation the reference is the policy. The batches of the next `every` steps are known offline, so
    they are run through the policy at once, and only their log-probabilities are kept until the next one.

    Args:
        policy: the model whose log-probabilities are kept.
        region: the period; its alpha is 1.
    """

    exact = True

    def __init__(self, policy: CausalModel, region: TrustRegion) -> None:
        assert region.alpha == 1
        self.policy = policy
        self.region = region
        self.identity = ""
        self.table = Table()

    def start(self, source: BatchSource) -> None:
        self._synchronise(0, source)
        self.identity = model_identity(self.policy.network)

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        return self.table.log_probs(batch)

    def update(self, step: int, source: BatchSource) -> bool:
        if not self.region.due(step):
            return False
        self._synchronise(step, source)
        self.identity = moved_identity(self.identity, step)
        return True

    def _synchronise(self, step: int, source: BatchSource) -> None:
        upcoming = source.upcoming(step, self.region.every)
        assert upcoming is not None
        # A new table in the order of training: the first entry of a repeated group is its next use.
        table = Table()
        table.fill(self.policy, upcoming)
        table.fill(self.policy, source.held_out())
        self.table = table

    def state(self) -> State:
        return State(self.table.tensors(), {"identity": self.identity})

    def restore(self, state: State) -> None:
        self.table = Table.from_tensors(state.tensors)
        self.identity = str(state.facts["identity"])
