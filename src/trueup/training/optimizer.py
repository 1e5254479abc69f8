"""AdamW on float32 master weights, and the learning rate over a run.

Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from trueup.errors import CheckpointError
from trueup.parallel.sharding import Shards, copies, fill, is_sharded, like, local, sum_


class Optimizer:
    """Fused AdamW over trainable parameters: those of a module, or a mapping from their names.

    Parameters in a lower precision than float32 are refused: at the learning rates of preference training
    (1e-6) an update of a bfloat16 weight rounds to nothing. Matrices decay; vectors (norms, biases) do not.
    A `max_grad_norm` of 0 turns clipping off.
    """

    def __init__(
        self,
        trained: nn.Module | Mapping[str, nn.Parameter],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
    ) -> None:
        self.max_grad_norm = max_grad_norm
        named = trained.named_parameters() if isinstance(trained, nn.Module) else trained.items()
        self.parameters = {name: p for name, p in named if p.requires_grad}
        low = [name for name, p in self.parameters.items() if torch.finfo(p.dtype).bits < 32]
        assert not low, f"trainable parameters in low precision: {low[:3]}"
        self._moved = {name: local(parameter) for name, parameter in self.parameters.items()}
        """What of each parameter this process moves."""
        matrices = [p for p in self._moved.values() if p.ndim > 1]
        vectors = [p for p in self._moved.values() if p.ndim <= 1]
        groups = [
            {"params": part, "weight_decay": decay}
            for part, decay in ((matrices, weight_decay), (vectors, 0.0))
            if part
        ]
        self.adamw = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=epsilon, fused=True)

    def zero_grad(self) -> None:
        self.adamw.zero_grad(set_to_none=True)
        for parameter in self.parameters.values():
            parameter.grad = None

    def grad_norm(self) -> Tensor | None:
        """Norm of the summed gradients, over all processes, on their device; None where no parameter has any."""
        grads = [p.grad for p in self.parameters.values() if p.grad is not None]
        if not grads:
            return None
        apart = [grad for grad in grads if not is_sharded(grad)]
        sum_(apart)
        parts = [local(grad) for grad in grads if is_sharded(grad)]
        norm: Tensor = _norm(apart)
        if parts:
            squared = _norm(parts) ** 2
            sum_([squared])
            norm = (norm**2 + squared / copies(grads)).sqrt()
        return norm

    @torch.no_grad()
    def step(self, *, divide_by: float, grad_norm: float, learning_rate: float) -> None:
        """Divide the summed gradients by the weight of the whole batch, clip them by their finite norm, and move."""
        clip = min(1.0, self.max_grad_norm / (grad_norm + 1e-6)) if self.max_grad_norm else 1.0
        for name, parameter in self.parameters.items():
            self._moved[name].grad = None if parameter.grad is None else local(parameter.grad)
        grads = [p.grad for p in self._moved.values() if p.grad is not None]
        torch._foreach_mul_(grads, clip / divide_by)
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()

    def state(self) -> dict[str, Tensor]:
        """`{parameter}.exp_avg`, `.exp_avg_sq` and `.step` of every parameter that has moved."""
        return {
            f"{name}.{key}": like(value, parameter)
            for name, parameter in self.parameters.items()
            for key, value in self.adamw.state.get(self._moved[name], {}).items()
        }

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Go back to a saved state, which must be of these parameters."""
        targets: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in saved]
            if not keys:
                continue
            if len(keys) != 3 or not (
                isinstance(saved, Shards) or saved[f"{name}.exp_avg"].shape == parameter.shape
            ):
                raise CheckpointError(
                    f"the saved optimizer state of {name} does not fit the model's parameter"
                )
            part = self._moved[name]
            state = {"step": torch.zeros((), device=part.device)}
            state |= {key: torch.zeros_like(part) for key in ("exp_avg", "exp_avg_sq")}
            self.adamw.state[part] = state
            targets |= {f"{name}.{key}": like(value, parameter) for key, value in state.items()}
        fill(targets, saved)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(list(tensors)))).double())
    return norm


FALLS: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}
"""Fraction of the peak left when a fraction `progress` in [0, 1) of the steps after warm-up is done."""


def learning_rate(step: int, *, peak: float, schedule: str, warmup: int, total: int) -> float:
    """Learning rate of step `step`, counted from 1: a linear warm-up, then a fall.

    Step w of a warm-up of W steps has peak w / W; the first step after it has the peak. The linear and cosine
    schedules would reach 0 one step after the last.
    """
    if step <= warmup:
        return peak * step / warmup
    return peak * FALLS[schedule]((step - warmup - 1) / max(total - warmup, 1))
