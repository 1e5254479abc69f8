"""Which weights a sampler in this process writes with: the policy's own, or those it had at the last refresh."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from trueup.errors import CheckpointError
from trueup.models.causal import CausalModel


class SamplingWeights:
    """Trainable parameters and the optimizer steps behind them.

    Args:
        model: the policy.
        keeps: whether the policy moves on between one refresh and the next, so that a copy is held.
    """

    def __init__(self, model: CausalModel, *, keeps: bool) -> None:
        self.version = 0
        self._model, self._keeps = model, keeps
        self._tensors: dict[str, Tensor] = {}
        """By the names of `CausalModel.trainable`; empty where the weights are the policy's own."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The policy with the weights to write with. Nothing is copied, and its own are back to the bit afterwards."""
        own = self._model.trainable()
        held = [(own[name], tensor) for name, tensor in self._tensors.items()]
        current = [value.data for value, _ in held]
        try:
            for value, tensor in held:
                value.data = tensor
            yield
        finally:
            for (value, _), before in zip(held, current, strict=True):
                value.data = before

    def refresh(self, version: int) -> None:
        """The policy's weights as they are now, after `version` optimizer steps."""
        own = self._model.trainable() if self._keeps else {}
        self._tensors = {name: value.detach().clone() for name, value in own.items()}
        self.version = version

    def state(self) -> Mapping[str, Tensor]:
        """For a checkpoint; nothing where the weights are the policy's own."""
        return dict(self._tensors)

    def restore(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """Back to what `state` gave, on the model's device.

        Raises:
            CheckpointError: these are not the parameters of this model.
        """
        if not tensors:
            self.refresh(version)
            return
        own = self._model.trainable()
        wrong = sorted(
            name
            for name in own.keys() | tensors.keys()
            if name not in own or name not in tensors or own[name].shape != tensors[name].shape
        )
        if wrong:
            raise CheckpointError(
                f"the checkpoint's weights of the sampling policy do not fit this model, beginning with {wrong[0]}. "
                "Resume with the model and the lora settings that the run began with"
            )
        self._tensors = {name: tensors[name].detach().to(value, copy=True) for name, value in own.items()}
        self.version = version
