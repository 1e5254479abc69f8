"""Weights as they were, swapped in while a policy that has moved on is sampled from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from trueup.errors import CheckpointError
from trueup.models.causal import CausalModel


class Snapshot:
    """The trainable parameters of a model at one time.

    Args:
        tensors: by the names of `CausalModel.trainable`; kept as they are.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    @classmethod
    def of(cls, model: CausalModel) -> Snapshot:
        """What the model's parameters are now."""
        return cls({name: value.detach().clone() for name, value in model.trainable().items()})

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], model: CausalModel) -> Snapshot:
        """One from a checkpoint, on the model's device.

        Raises:
            CheckpointError: these are not the parameters of this model.
        """
        own = model.trainable()
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
        return cls({name: tensors[name].detach().to(value, copy=True) for name, value in own.items()})

    @contextmanager
    def in_place(self, model: CausalModel) -> Iterator[None]:
        """The model with these weights. Nothing is copied, and its own are back to the bit afterwards."""
        own = model.trainable()
        current = {name: value.data for name, value in own.items()}
        try:
            with torch.no_grad():
                for name, value in own.items():
                    value.data = self.tensors[name]
            yield
        finally:
            for name, value in own.items():
                value.data = current[name]
