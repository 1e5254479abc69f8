"""AdamW on float32 master weights. Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trueup.errors import CheckpointError, NumericsError
from trueup.words import listed


@dataclass(frozen=True, slots=True)
class AdamW:
    """Settings of the optimizer."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    """0 turns clipping off."""


class Optimizer:
    """Fused AdamW over trainable parameters: those of a module, or a mapping from their names.

    Parameters in a lower precision than float32 are refused: at the learning rates of preference training
    (1e-6) an update of a bfloat16 weight rounds to nothing. Matrices decay; vectors (norms, biases) do not.
    """

    def __init__(self, trained: nn.Module | Mapping[str, nn.Parameter], settings: AdamW) -> None:
        self.settings = settings
        named = trained.named_parameters() if isinstance(trained, nn.Module) else trained.items()
        self.parameters = {name: p for name, p in named if p.requires_grad}
        low = [name for name, p in self.parameters.items() if torch.finfo(p.dtype).bits < 32]
        assert not low, f"trainable parameters in low precision: {low[:3]}"
        matrices = [p for p in self.parameters.values() if p.ndim > 1]
        vectors = [p for p in self.parameters.values() if p.ndim <= 1]
        groups = [
            {"params": part, "weight_decay": decay}
            for part, decay in ((matrices, settings.weight_decay), (vectors, 0.0))
            if part
        ]
        self.adamw = torch.optim.AdamW(
            groups, lr=0.0, betas=(settings.beta1, settings.beta2), eps=settings.epsilon, fused=True
        )

    def zero_grad(self) -> None:
        self.adamw.zero_grad(set_to_none=True)

    @torch.no_grad()
    def step(self, *, divide_by: float, learning_rate: float, rows: Sequence[str], step: int) -> float:
        """Scale the accumulated gradients, clip them, and move.

        Args:
            divide_by: weight of the whole batch.
            learning_rate: of this step.
            rows: names of the batch's rows, for the message.

        Returns:
            The gradient's norm before clipping.

        Raises:
            NumericsError: the norm is not finite; nothing has moved.
        """
        grads = [p.grad for p in self.parameters.values() if p.grad is not None]
        norms = torch._foreach_norm(grads)
        norm = torch.linalg.vector_norm(torch.stack(list(norms)).double()).item() / divide_by
        if not norm < float("inf"):
            raise NumericsError(
                f"step {step}: the gradient is not finite ({norm}); the step was not taken and the last checkpoint is "
                f"intact. Lower --learning-rate, or look at its rows: {listed(rows)}"
            )
        limit = self.settings.max_grad_norm
        clip = min(1.0, limit / (norm + 1e-6)) if limit else 1.0
        torch._foreach_mul_(grads, clip / divide_by)
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """`{parameter}.exp_avg`, `.exp_avg_sq` and `.step` of every parameter that has moved."""
        return {
            f"{name}.{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self.adamw.state.get(parameter, {}).items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to a saved state.

        Raises:
            CheckpointError: the state belongs to other parameters.
        """
        for name, parameter in self.parameters.items():
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in tensors]
            if not keys:
                continue
            state = {key: tensors[f"{name}.{key}"].clone() for key in keys}
            if len(keys) != 3 or state["exp_avg"].shape != parameter.shape:
                raise CheckpointError(
                    f"the saved optimizer state of {name} does not fit the model's parameter"
                )
            self.adamw.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}
