"""Responses from a model in this process, reproducible by an explicit generator.

Shape suffixes: N prompts, L prompt tokens (padded on the left), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Only the most likely tokens that together have this probability are drawn from."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One response as token ids."""

    ids: tuple[int, ...]
    """Without the end of sequence."""
    ended: bool
    """Whether the model ended it; False when it ran into `max_new_tokens`."""


@torch.no_grad()
def draw(
    network: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    end_ids: Sequence[int],
    sampling: Sampling,
    generator: torch.Generator,
    batch_size: int = 256,
) -> list[Drawn]:
    """One response for each prompt, in order.

    Args:
        network: a transformers model with the library's own attention (`CausalModel.plain`); its dropout is off
            while sampling.
        prompts: token ids, none of them empty.
        end_ids: tokens that end a response.
        generator: the only source of randomness; on the CPU whatever the model's device.
        batch_size: prompts computed together. It takes part in what a seed draws.
    """
    drawn: list[Drawn] = []
    training = network.training
    network.eval()
    try:
        for start in range(0, len(prompts), batch_size):
            drawn += _draw(network, prompts[start : start + batch_size], tuple(end_ids), sampling, generator)
    finally:
        network.train(training)
    return drawn


def _draw(
    network: Any,
    prompts: Sequence[Sequence[int]],
    end_ids: tuple[int, ...],
    sampling: Sampling,
    generator: torch.Generator,
) -> list[Drawn]:
    device = next(network.parameters()).device
    width = max(len(prompt) for prompt in prompts)
    token_NL = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask_NL = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    position_NL = (mask_NL.cumsum(1) - 1).clamp(min=0)
    ends = torch.tensor(end_ids, device=device)
    alive_N = torch.ones(len(prompts), dtype=torch.bool, device=device)
    written: list[list[int]] = [[] for _ in prompts]
    cache = None
    for _ in range(sampling.max_new_tokens):
        output = network(
            input_ids=token_NL,
            attention_mask=mask_NL,
            position_ids=position_NL,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        next_N = _choose(output.logits[:, -1].float(), sampling, generator)
        alive_N = alive_N & ~torch.isin(next_N, ends)
        for row, (token, alive) in enumerate(zip(next_N.tolist(), alive_N.tolist(), strict=True)):
            if alive:
                written[row].append(token)
        if not alive_N.any():
            break
        token_NL = next_N[:, None]
        mask_NL = torch.cat([mask_NL, torch.ones_like(mask_NL[:, :1])], 1)
        position_NL = position_NL[:, -1:] + 1
    return [Drawn(tuple(ids), not alive) for ids, alive in zip(written, alive_N.tolist(), strict=True)]


def _choose(logits_NV: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """[N] int64, one token a row."""
    if not sampling.temperature:
        return logits_NV.argmax(-1)
    probability_NV = (logits_NV / sampling.temperature).softmax(-1).cpu()
    if sampling.top_p < 1:
        sorted_NV, place_NV = probability_NV.sort(descending=True)
        before_NV = sorted_NV.cumsum(-1) - sorted_NV
        sorted_NV = sorted_NV.masked_fill(before_NV >= sampling.top_p, 0.0)
        probability_NV = torch.zeros_like(sorted_NV).scatter_(-1, place_NV, sorted_NV)
    return torch.multinomial(probability_NV, 1, generator=generator)[:, 0].to(logits_NV.device)
