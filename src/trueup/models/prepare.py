"""A policy ready to train: loaded, adapted, in the right precision and on the right device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trueup.errors import InputError
from trueup.models import lora
from trueup.models.causal import CausalModel
from trueup.models.foreign_code import check_targets
from trueup.models.load import Loaded, load, quiet
from trueup.models.reward import HEAD, RewardModel
from trueup.models.reward_load import load_reward

SMALL = 4e9
"""Weights times tokens of a step below which a second CPU thread costs more than it gives."""


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """A fresh LoRA adapter."""

    rank: int
    alpha: float
    dropout: float
    targets: str | tuple[str, ...]


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        InputError: a GPU is asked for, and there is none.
    """
    found = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if found else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not found:
        raise InputError(
            "device cuda was asked for, but torch finds no GPU here. Leave --device out, or use cpu"
        )
    return device


def pick_autocast(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 products where they pay: on GPUs that have them; a CPU computes small models faster in float32."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return torch.bfloat16 if precision == "bf16" else None


def load_policy(
    path: str,
    *,
    device: torch.device,
    precision: str,
    adapter: AdapterSettings | None,
    gradient_checkpointing: bool = False,
    **options: Any,
) -> tuple[CausalModel, Loaded]:
    """Load a model to be trained; every trainable parameter is float32.

    Args:
        path: folder of a model or an adapter.
        adapter: a fresh adapter to put on it; None trains everything, or the adapter given as `path`.
        options: of `trueup.models.load.load`.

    Raises:
        InputError: as `load` and `add_lora`; or an adapter is asked for on top of one.
    """
    autocast = pick_autocast(precision, device)
    _check_targets(path, adapter)
    loaded = load(path, device=device, dtype=_held_in(adapter, autocast, device), **options)
    network = _adapted(loaded, path, adapter, device)
    _ready(network, adapter, gradient_checkpointing)
    return CausalModel(network, autocast=autocast), loaded


def load_reward_policy(
    path: str,
    *,
    device: torch.device,
    precision: str,
    adapter: AdapterSettings | None,
    seed: int,
    gradient_checkpointing: bool = False,
    **options: Any,
) -> tuple[RewardModel, Loaded]:
    """Load a reward model to be trained, or a causal language model to make one of; see `load_policy`.

    Args:
        seed: what the head of a causal language model is drawn from.
        options: of `trueup.models.reward_load.load_reward`.

    Raises:
        InputError: as `load_reward` and `add_lora`; or an adapter is asked for on top of one.
    """
    autocast = pick_autocast(precision, device)
    held_in = _held_in(adapter, autocast, device)
    _check_targets(path, adapter)
    loaded = load_reward(path, device=device, dtype=held_in, seed=seed, **options)
    network = _adapted(loaded, path, adapter, device, head=HEAD)
    _ready(network, adapter, gradient_checkpointing)
    return RewardModel(network, autocast=autocast), loaded


def _check_targets(path: str, adapter: AdapterSettings | None) -> None:
    if adapter is not None:
        check_targets(adapter.targets, path)


def _held_in(
    adapter: AdapterSettings | None, autocast: torch.dtype | None, device: torch.device
) -> torch.dtype:
    """What weights are held in: those that a fresh adapter leaves alone may be in the precision of the products."""
    return (
        autocast if adapter is not None and autocast is not None and device.type == "cuda" else torch.float32
    )


def _adapted(
    loaded: Loaded, path: str, adapter: AdapterSettings | None, device: torch.device, head: str | None = None
) -> Any:
    """The network with the fresh adapter asked for, or as it is.

    Args:
        head: what is trained whole beside the adapter.
    """
    if loaded.starts_from_adapter:
        lora.refuse_special(loaded.network, path, head=head)
        if adapter is not None:
            raise InputError(
                f"{path} is an adapter, and training goes on with it; a second one cannot be put on top. Leave lora "
                f"out, or give the base model, {loaded.base_path}"
            )
    if adapter is None:
        return loaded.network
    network = lora.add_lora(
        loaded.network, rank=adapter.rank, alpha=adapter.alpha, dropout=adapter.dropout, targets=adapter.targets,
        base=str(Path(loaded.base_path).resolve()), head=head,
    )  # fmt: skip
    return network.to(device)


def _ready(network: Any, adapter: AdapterSettings | None, gradient_checkpointing: bool) -> None:
    if gradient_checkpointing:
        with quiet():  # newer versions of the library deprecate the name
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    disable_dropout(network, keep_adapters=adapter is not None)
    network.train()


def disable_dropout(network: nn.Module, *, keep_adapters: bool) -> None:
    """Turn off dropout, which would make policy and reference differ at equal weights.

    Args:
        keep_adapters: leave that of the LoRA adapter, which the user asked for.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout) and not (keep_adapters and "lora_dropout" in name):
            module.p = 0.0
        for attribute in ("attention_dropout", "attn_dropout", "dropout", "hidden_dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)


def num_parameters(network: nn.Module) -> int:
    """All parameters, trainable or not."""
    return sum(parameter.numel() for parameter in network.parameters())
