"""A policy ready to train: loaded, adapted, in the right precision and on the right device."""

import ctypes
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from trueup.errors import InputError
from trueup.models import causal, lora, reward, tokenizer
from trueup.models.load import Loaded, in_4_bits, load
from trueup.parallel import processes, slices
from trueup.settings.run_settings import LoraSettings
from trueup.words import listed, logger

NOISE = re.compile(r"drop|jitter|noise")
"""Numbers of a module that say how much of something random there is in training."""
DROPOUT = re.compile("drop|^p$")
"""Those that say nothing else; a router may read how much it jitters at inference, too."""
SMALL = 4e9
"""Weights times tokens of a step below which a second CPU thread costs more than it gives."""


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    found = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if found else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not found:
        raise InputError("device cuda was asked for, but torch finds no GPU here. Leave --device out, or use cpu")
    if device.type == "cpu":
        set_allocator()
    return device


def set_allocator() -> None:
    """Have glibc's allocator keep what is freed: every step asks for the same buffers again, and fresh pages are slow.

    The process then holds its peak of memory to its end. Each of several gives large buffers back instead: layers that
    are gathered and given up would leave gaps that the next ones do not fit into. Other systems are left as they are.
    """
    # M_MMAP_THRESHOLD, or M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    options = {-3: 2**24} if processes.size() > 1 else {-4: 0, -1: 2**31 - 1, -2: 2**26}
    with suppress(OSError, AttributeError, TypeError):
        for option, value in options.items():
            ctypes.CDLL(None).mallopt(option, value)


def pick_autocast(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 products where they pay: on GPUs that have them; a CPU computes small models faster in float32."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return torch.bfloat16 if precision == "bf16" else None


def load_policy(path: str, **options: Any) -> tuple[causal.CausalModel, Loaded]:
    """Load a model to be trained; every trainable parameter is float32.
    `adapter` is a fresh one to put on it; None trains everything, or the adapter given as `path`."""
    network, loaded, autocast = _trainable(load, path, **options)
    return causal.CausalModel(network, autocast=autocast), loaded


def load_reward_policy(path: str, *, seed: int, **options: Any) -> tuple[reward.RewardModel, Loaded]:
    """Load a reward model, or a causal language model to become one with a head drawn from `seed`, to be trained."""
    network, loaded, autocast = _trainable(reward.load_reward, path, head=reward.HEAD, seed=seed, **options)
    return reward.RewardModel(network, autocast=autocast), loaded


def _trainable(
    read: Callable[..., Loaded],
    path: str,
    *,
    device: torch.device,
    precision: str,
    adapter: LoraSettings | None,
    gradient_checkpointing: bool = False,
    quantize: str | None = None,
    head: str | None = None,
    **options: Any,
) -> tuple[Any, Loaded, torch.dtype | None]:
    """The network with the fresh adapter asked for, or as it is; and what its products are computed in."""
    autocast = pick_autocast(precision, device)
    if adapter is not None:
        patterns = _numbers((*adapter.rank_pattern, *adapter.alpha_pattern))
        tokenizer.check_targets(adapter.targets, path, patterns)
    # Weights that a fresh adapter leaves alone may be held in the precision of the products; what DoRA's norms are
    # taken of, and what is copied to be trained, may not: these are in float32, and would compute something else.
    plain = adapter is not None and not adapter.dora and not adapter.modules_to_save
    half = plain and autocast is not None and device.type == "cuda"
    dtype = autocast if half and autocast else torch.float32
    skipped = [*(adapter.modules_to_save if adapter else ()), *([head] if head else ())]
    options["quantize"] = in_4_bits(quantize, device, autocast or dtype, skipped)
    loaded = read(path, device=device, dtype=dtype, **options)
    network: Any = loaded.network
    if loaded.starts_from_adapter:
        lora.refuse_special(network, path)
        if adapter is not None:
            raise InputError(
                f"{path} is an adapter, and training goes on with it; a second one cannot be put on top. Leave lora "
                f"out, or give the base model, {loaded.base_path}"
            )
    if adapter is not None:
        network = lora.add_lora(
            network, rank=adapter.rank, alpha=adapter.alpha or 2.0 * adapter.rank, dropout=adapter.dropout,
            targets=adapter.targets, base=loaded.base_path, head=head, saved=adapter.modules_to_save,
            ranks=_numbers(adapter.rank_pattern), alphas=_numbers(adapter.alpha_pattern),
            rslora=adapter.rslora, dora=adapter.dora,
        )  # fmt: skip
        network = network if slices.is_unread(network) else network.to(device)
    if gradient_checkpointing:
        with tokenizer.quiet_library():  # newer versions of the library deprecate the name
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    noise = disable_noise(network.train(), keep_adapters=adapter is not None)
    if noise:
        told = listed([f"{name} {value:g}" for name, value in noise.items()])
        logger.info(f"switched off, as it would make policy and reference differ: {told}")
    return network, loaded, autocast


def _numbers(pattern: Sequence[str]) -> dict[str, int]:
    return {name: int(number) for name, _, number in (one.rpartition("=") for one in pattern)}


def disable_noise(network: nn.Module, *, keep_adapters: bool) -> dict[str, float]:
    """Turn off dropout, router jitter and the like, which would make policy and reference differ; name what was on.
    A module with noise other than dropout is left in evaluation mode; `keep_adapters` leaves LoRA's dropout."""
    found: dict[str, float] = {}
    for name, module in network.named_modules():
        if keep_adapters and "lora_dropout" in name:
            continue
        numbers = {key: value for key, value in vars(module).items() if NOISE.search(key)}
        if isinstance(module, nn.Dropout):
            numbers["p"] = module.p
        for key, value in numbers.items():
            if isinstance(value, float) and value > 0:
                found.setdefault(name.rsplit(".", 1)[-1] if key == "p" else key, value)
                if DROPOUT.search(key):
                    setattr(module, key, 0.0)
                else:
                    module.training = False
    return found


def set_threads(network: nn.Module, tokens: int, threads: int | None = None) -> None:
    device = next(network.parameters()).device
    if threads or (device.type == "cpu" and num_parameters(network) * tokens < SMALL):
        torch.set_num_threads(threads or 1)


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
