"""A second model: frozen, or following the policy in parameter space."""

from __future__ import annotations

import copy
from typing import Any

import torch

from trueup.batch.batch import Batch
from trueup.batch.logprobs import LogProbs
from trueup.models.causal import CausalModel
from trueup.models.identity import model_identity
from trueup.references.choices import TrustRegion
from trueup.references.reference import Feed, State
from trueup.references.updates import due, interpolate_


class ModelCopy:
    """A copy of the policy's weights, for full fine-tuning.

    Args:
        policy: what is copied when the run starts, and followed afterwards.
        region: how it follows; None keeps it frozen.
    """

    exact = True

    def __init__(self, policy: CausalModel, region: TrustRegion | None = None) -> None:
        self.policy = policy
        self.region = region
        self._model: CausalModel | None = None
        self._identity = ""

    @property
    def identity(self) -> str:
        """Hash of the copy's weights, computed when asked for."""
        self._identity = self._identity or model_identity(self.model.network)
        return self._identity

    @property
    def model(self) -> CausalModel:
        """The copy; made on first use so that a restored one is not made twice."""
        if self._model is None:
            network = copy.deepcopy(self.policy.network).requires_grad_(False)
            self._model = CausalModel(network, layout=self.policy.layout, autocast=self.policy.autocast)
        return self._model

    def start(self, feed: Feed) -> None:
        self._identity = model_identity(self.model.network)

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        with torch.no_grad():
            return self.model.log_probs(batch.stream)

    def update(self, step: int, feed: Feed) -> bool:
        if self.region is None or not due(self.region, step):
            return False
        interpolate_(
            list(self.model.network.parameters()), list(self.policy.network.parameters()), self.region.alpha
        )
        self._identity = ""
        return True

    def state(self) -> State:
        tensors = dict(self.model.network.named_parameters())
        return State(tensors, {"identity": self.identity})

    def restore(self, state: State) -> None:
        with torch.no_grad():
            for name, parameter in self.model.network.named_parameters():
                parameter.copy_(state.tensors[name])
        self._identity = str(state.facts["identity"])
