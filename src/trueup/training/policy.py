"""The policy of a run: loaded, adapted, and its layout and threads chosen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from trueup.batch.logprobs import Part
from trueup.batch.tokens import TokenGroup
from trueup.display import Display
from trueup.errors import InputError
from trueup.models.causal import CausalModel, StreamModel
from trueup.models.load import Loaded
from trueup.models.prepare import (
    SMALL,
    AdapterSettings,
    load_policy,
    load_reward_policy,
    num_parameters,
    pick_device,
)
from trueup.models.reward import RewardModel
from trueup.models.selfcheck import check_attention
from trueup.settings.run_settings import RunSettings


def make_policy(
    settings: RunSettings, display: Display, *, output: str = "log-probs", parts: Collection[Part] = ()
) -> tuple[CausalModel | RewardModel, Loaded]:
    """Load what is to be trained, seeded, and say how large it is.

    Args:
        output, parts: what is read of it; see `trueup.methods.method.Method`.

    Raises:
        InputError: the model cannot be loaded or adapted as asked, or the device is not there.
    """
    torch.manual_seed(settings.seed)
    device = pick_device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device cuda was asked for, but torch finds no GPU here. Leave --device out, or use cpu"
        )
    options: dict[str, Any] = {
        "device": device,
        "precision": settings.precision,
        "adapter": _adapter(settings),
        "gradient_checkpointing": settings.gradient_checkpointing,
        "trust_remote_code": settings.trust_remote_code,
        "eos_token": settings.eos_token,
        "chat_template": settings.chat_template,
    }
    path = _folder(settings)
    policy: CausalModel | RewardModel
    if output == "scores":
        policy, loaded = load_reward_policy(path, seed=settings.seed, **options)
    else:
        policy, loaded = load_policy(path, **options)
        if "values" in parts:
            policy.add_value_head()
    size = num_parameters(policy.network)
    trained = sum(p.numel() for p in policy.network.parameters() if p.requires_grad)
    display.say(
        f"{settings.model}: {type(policy.inner).__name__} on {device.type}, {trained:,} of {size:,} weights trained"
        + (", products in bfloat16" if policy.autocast else "")
    )
    return policy, loaded


def _folder(settings: RunSettings) -> str:
    if settings.model != "world":
        return settings.model
    from trueup.world.model import world_model_path

    return str(world_model_path())


def _adapter(settings: RunSettings) -> AdapterSettings | None:
    lora = settings.lora
    if lora is None:
        return None
    return AdapterSettings(lora.rank, lora.alpha or 2.0 * lora.rank, lora.dropout, lora.targets)


def choose_threads(policy: StreamModel, groups: Sequence[TokenGroup[Any]], settings: RunSettings) -> None:
    """Set the CPU threads before anything is computed: sums in another order differ in the last bit.

    Args:
        groups: those of the first step, which stand for all.
    """
    work = num_parameters(policy.network) * sum(group.num_tokens for group in groups)
    if settings.threads or (policy.device.type == "cpu" and work < SMALL):
        torch.set_num_threads(settings.threads or 1)


def threads_for_sampling(policy: StreamModel, settings: RunSettings) -> None:
    """Set the CPU threads where something is sampled before the first batch is known."""
    work = num_parameters(policy.network) * settings.micro_batch_tokens
    if settings.prompts and (settings.threads or (policy.device.type == "cpu" and work < SMALL)):
        torch.set_num_threads(settings.threads or 1)


def choose_attention(
    policy: CausalModel | RewardModel,
    groups: Sequence[TokenGroup[Any]],
    settings: RunSettings,
    display: Display,
) -> None:
    """Take the fastest attention backend that is exact for this model, or the one asked for, and say so if it is slow.

    Args:
        groups: those of the first step, on which it is tried.

    Raises:
        InputError: none is exact.
    """
    wanted = None if settings.attention == "auto" else settings.attention
    check = check_attention(policy, groups, wanted)
    policy.set_attention(check.attention)
    if check.message:
        display.warn(check.message)
