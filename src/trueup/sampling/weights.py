"""Which weights a sampler in this process writes with: the policy's own, or those it had at the last refresh."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from trueup.models.causal import CausalModel
from trueup.sampling.snapshot import Snapshot


class SamplingWeights:
    """Weights and the optimizer steps behind them.

    Args:
        model: the policy.
        keeps: whether the policy moves on between one refresh and the next.
    """

    def __init__(self, model: CausalModel, *, keeps: bool) -> None:
        self.version = 0
        self._model, self._keeps = model, keeps
        self._snapshot: Snapshot | None = None

    def in_place(self) -> AbstractContextManager[None]:
        """The policy with the weights to write with; its own are back afterwards."""
        return self._snapshot.in_place(self._model) if self._snapshot else nullcontext()

    def refresh(self, version: int) -> None:
        """The policy's weights as they are now, after `version` optimizer steps."""
        self._snapshot = Snapshot.of(self._model) if self._keeps else None
        self.version = version

    def state(self) -> Mapping[str, Tensor]:
        """For a checkpoint; nothing where the weights are the policy's own."""
        return dict(self._snapshot.tensors) if self._snapshot else {}

    def restore(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """Back to what `state` gave.

        Raises:
            CheckpointError: these are not the parameters of this model.
        """
        if tensors:
            self._snapshot, self.version = Snapshot.restored(tensors, self._model), version
        else:
            self.refresh(version)
