"""The next token of each sequence, from logits and one uniform number.

Shape suffixes: N sequences, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trueup.sampling.drawn import Sampling

_SLACK = 1e-6
"""Rounding of float32 probabilities, by which a sum that reaches top-p exactly may miss it."""


def choose(logits_NV: Tensor, sampling: Sampling, uniform_N: Tensor | None) -> tuple[Tensor, Tensor]:
    """One token a row, by inverting the distribution function.

    A row's token is a function of its own logits and its own number alone, so that it does not matter which rows are
    computed together.

    Args:
        logits_NV: float32.
        uniform_N: float64 in [0, 1); None where the temperature is 0.

    Returns:
        [N] int64, and [N] float32 log-probabilities of the model itself in nats.
    """
    if uniform_N is None:
        token_N = logits_NV.argmax(-1)
    else:
        token_N = _inverse((logits_NV / sampling.temperature).softmax(-1), sampling, uniform_N)
    log_prob_N = logits_NV.gather(-1, token_N[:, None])[:, 0] - logits_NV.logsumexp(-1)
    return token_N, log_prob_N


def _inverse(probability_NV: Tensor, sampling: Sampling, uniform_N: Tensor) -> Tensor:
    """[N] int64 on the device of the probabilities; computed in float64, on the CPU where a device has none."""
    device = probability_NV.device
    weight_NV = probability_NV.to("cpu" if device.type == "mps" else device, torch.float64)
    if not sampling.top_k and sampling.top_p >= 1:
        return _drawn(weight_NV, uniform_N).to(device)
    weight_NV, token_NV = weight_NV.sort(
        descending=True, stable=True
    )  # of equals the first in the vocabulary
    if sampling.top_k:
        weight_NV[:, sampling.top_k :] = 0.0
    if sampling.top_p < 1:
        before_NV = weight_NV.cumsum(-1) - weight_NV
        enough_N1 = sampling.top_p * weight_NV.sum(-1, keepdim=True) - _SLACK
        enough_N1 = enough_N1.clamp(min=torch.finfo(torch.float64).tiny)  # the most likely one always stays
        weight_NV = weight_NV.masked_fill(before_NV >= enough_N1, 0.0)
    return token_NV.gather(-1, _drawn(weight_NV, uniform_N)[:, None])[:, 0].to(device)


def _drawn(weight_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """[N] int64 places, each with a probability proportional to its weight; never one without any."""
    sum_NV = weight_NV.cumsum(-1)
    total_N = sum_NV[:, -1]
    below_N = torch.nextafter(total_N, torch.zeros_like(total_N))
    target_N = torch.minimum(uniform_N.to(total_N.device) * total_N, below_N)
    return torch.searchsorted(sum_NV, target_N[:, None], right=True)[:, 0]
