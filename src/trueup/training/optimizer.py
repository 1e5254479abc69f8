"""AdamW or Muon on float32 master weights, and the learning rate over a run.
AdamW: Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101. Its moments in 8 bits: Dettmers et al., 2022,
https://arxiv.org/abs/2110.02861. Muon: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon, its updates of
AdamW's size as in Liu et al., 2025, https://arxiv.org/abs/2502.16982."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from trueup.errors import CheckpointError, InputError
from trueup.models.causal import StreamModel
from trueup.parallel.sharding import Shards, copies, fill, is_sharded, like, local, sum_

MOMENTS, BUFFER = ("exp_avg", "exp_avg_sq"), "momentum_buffer"
BLOCK, SMALL = 256, 4096
"""Numbers of a moment in 8 bits that share a scale; tensors of fewer than `SMALL` are held in float32."""
BYTES = {"fp32": 4.0, "bf16": 2.0, "8bit": 1 + 4 / BLOCK}


def bytes_of(count: int, states: str) -> int:
    return math.ceil(count * BYTES[states if count >= SMALL else "fp32"])


def by_muon(policy: StreamModel) -> list[nn.Parameter]:
    """The matrices that Muon is for: those of decoder layers. InputError: there are none."""
    layers = nn.ModuleList(policy.layers).parameters()
    if not (found := [one for one in layers if one.requires_grad and one.ndim == 2]):
        raise InputError(
            f"optimizer muon moves the matrices of decoder layers, of which this {type(policy.inner).__name__} trains "
            "none; give optimizer adamw"
        )
    return found


@cache
def levels(signed: bool) -> Tensor:
    """[255] float32, rising: what a number in 8 bits may stand for, as parts of the largest one of its block.
    Seven powers of ten, each with twice as many values as the one below (Dettmers et al., section 1.3)."""
    parts = [torch.linspace(0.1, 1, 2**n * (2 - signed) + 1, dtype=torch.float64) for n in range(7)]
    found = torch.cat([(part[:-1] + part[1:]) / 2 * 10.0 ** (n - 6) for n, part in enumerate(parts)])
    found[-1] = 1.0  # so that what is read and written again stays as it is
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([-found.flip(0), zero, found] if signed else [zero, found]).float()


def pack(value: Tensor, how: str, *, signed: bool, chance: torch.Generator | None) -> tuple[Tensor, ...]:
    """A moment as it is held: in bfloat16, or as uint8 codes and the scale of each block of `BLOCK`.
    Of the two neighbours of a number the nearer one is taken; with `chance` either, so that the mean is exact: a decay
    of 0.1 % is less than half of what lies between two of them."""
    if how == "bf16":
        if chance is None:
            return (value.bfloat16(),)
        noise = torch.randint(0, 2**16, value.shape, generator=chance, dtype=torch.int32, device=value.device)
        return (((value.view(torch.int32) + noise) & -(2**16)).view(torch.float32).bfloat16(),)
    level = levels(signed).to(value.device)
    blocks = nn.functional.pad(value.reshape(-1), (0, -value.numel() % BLOCK)).view(-1, BLOCK)
    scale = blocks.abs().amax(1)
    part = blocks / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    below = (torch.bucketize(part, level, right=True) - 1).clamp(0, len(level) - 2)
    share = (part - level[below]) / (level[below + 1] - level[below])
    at = 0.5 if chance is None else torch.rand(part.shape, generator=chance, device=part.device)
    return (below + (share > at)).to(torch.uint8), scale


def unpack(held: Sequence[Tensor], shape: torch.Size, *, signed: bool) -> Tensor:
    if len(held) == 1:
        return held[0].float()
    codes, scale = held
    return (levels(signed).to(codes.device)[codes.int()] * scale[:, None]).view(-1)[: shape.numel()].view(shape)


class Optimizer:
    """Fused AdamW over trainable parameters: those of a module, or a mapping from their names; Muon over `by_muon`.
    Parameters in a lower precision than float32 are refused: at the learning rates of preference training (1e-6) an
    update of a bfloat16 weight rounds to nothing. Matrices decay; vectors (norms, biases) do not. A `max_grad_norm` of
    0 turns clipping off. AdamW's moments are held as `states` has it, and are computed with in float32, a parameter at
    a time."""

    def __init__(
        self, trained: nn.Module | Mapping[str, nn.Parameter], *, betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8, weight_decay: float = 0.0, max_grad_norm: float = 1.0, states: str = "fp32",
        by_muon: Collection[nn.Parameter] = (),
    ) -> None:  # fmt: skip
        self.max_grad_norm, self.states = max_grad_norm, states
        named = trained.named_parameters() if isinstance(trained, nn.Module) else trained.items()
        self.parameters = {name: p for name, p in named if p.requires_grad}
        low = [name for name, p in self.parameters.items() if torch.finfo(p.dtype).bits < 32]
        assert not low, f"trainable parameters in low precision: {low[:3]}"
        self._moved = {name: local(parameter) for name, parameter in self.parameters.items()}
        """What of each parameter this process moves."""
        chosen = {id(one) for one in by_muon}
        muon = [self._moved[name] for name, p in self.parameters.items() if id(p) in chosen]
        rest = [self._moved[name] for name, p in self.parameters.items() if id(p) not in chosen]
        matrices, vectors = [p for p in rest if p.ndim > 1], [p for p in rest if p.ndim <= 1]
        groups = [
            {"params": part, "weight_decay": decay}
            for part, decay in ((matrices, weight_decay), (vectors, 0.0))
            if part
        ]
        self.several: list[torch.optim.Optimizer] = []
        if groups:
            self.several.append(torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=epsilon, fused=True))
        if muon:
            made = torch.optim.Muon(muon, lr=0.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self.several.append(made)

    def zero_grad(self) -> None:
        for parameter in (*self._moved.values(), *self.parameters.values()):
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
        for one in self.several:
            for group in one.param_groups:
                group["lr"] = learning_rate
            if self.states == "fp32":
                one.step()
            else:
                self._step_packed(one)

    def _step_packed(self, one: torch.optim.Optimizer) -> None:
        """A step of AdamW by parameters, whose moments are float32 while it is their turn."""
        places, number = {id(part): place for place, part in enumerate(self._moved.values())}, None
        for group in one.param_groups:
            options: dict[str, Any] = {key: group[key] for key in ("lr", "weight_decay", "eps", "amsgrad", "maximize")}
            options |= dict(zip(("beta1", "beta2"), group["betas"], strict=True))
            for part in group["params"]:
                if part.grad is None:
                    continue
                state = one.state[part] or {"step": torch.zeros((), device=part.device)}
                first, second = (
                    self._computed(key, state[key], part) if key in state else torch.zeros_like(part) for key in MOMENTS
                )
                adamw([part], [part.grad], [first], [second], [], [state["step"]], fused=True, **options)
                number = int(state["step"]) if number is None else number
                chance = torch.Generator(part.device).manual_seed(number * len(places) + places[id(part)])
                held = (self._held(key, one_, chance) for key, one_ in zip(MOMENTS, (first, second), strict=True))
                one.state[part] = state | dict(zip(MOMENTS, held, strict=True))

    def _held(self, key: str, value: Tensor, chance: torch.Generator | None = None) -> Any:
        if self.states == "fp32" or key not in MOMENTS or value.numel() < SMALL:
            return value
        return pack(value, self.states, signed=key == MOMENTS[0], chance=chance)

    def _computed(self, key: str, held: Any, part: Tensor, device: Any = None) -> Tensor:
        if not isinstance(held, tuple):
            return held  # type: ignore[no-any-return]
        return unpack([one.to(device) for one in held], part.shape, signed=key == MOMENTS[0])

    def state(self) -> dict[str, Tensor]:
        """Of every parameter that has moved `{parameter}.exp_avg`, `.exp_avg_sq` and `.step`, or `.momentum_buffer`."""
        known = {id(part): state for one in self.several for part, state in one.state.items()}
        found: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            part, device = self._moved[name], None if is_sharded(parameter) else "cpu"  # where there is room
            for key, held in known.get(id(part), {}).items():
                found[f"{name}.{key}"] = like(self._computed(key, held, part, device), parameter)
        return found

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        owner = {id(p): one for one in self.several for group in one.param_groups for p in group["params"]}
        states, targets = list[tuple[Any, Tensor, dict[str, Tensor]]](), dict[str, Tensor]()
        for name, parameter in self.parameters.items():
            part = self._moved[name]
            one = owner[id(part)]
            wanted = ("step", *MOMENTS) if isinstance(one, torch.optim.AdamW) else (BUFFER,)
            keys = [key for key in ("step", *MOMENTS, BUFFER) if f"{name}.{key}" in saved]
            if not keys:
                continue
            if tuple(keys) != wanted or not (
                isinstance(saved, Shards) or saved[f"{name}.{wanted[len(wanted) // 2]}"].shape == parameter.shape
            ):
                raise CheckpointError(f"the saved optimizer state of {name} does not fit the model's parameter")
            device = part.device if self.states == "fp32" or is_sharded(parameter) else "cpu"
            state = {key: torch.zeros_like(part, device=device) for key in keys if key != "step"}
            state |= {"step": torch.zeros((), device=device)} if "step" in keys else {}
            states.append((one, part, state))
            targets |= {f"{name}.{key}": like(value, parameter) for key, value in state.items()}
        fill(targets, saved)
        for one, part, state in states:
            one.state[part] = {key: self._held(key, value.to(part.device)) for key, value in state.items()}


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
    Step w of a warm-up of W steps has peak w / W; the first step after it has the peak. The linear and cosine schedules
    would reach 0 one step after the last."""
    if step <= warmup:
        return peak * step / warmup
    return peak * FALLS[schedule]((step - warmup - 1) / max(total - warmup, 1))
