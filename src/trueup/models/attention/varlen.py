"""Attention of a stream by one call of FlashAttention a layer, over segments of different lengths.

A segment is a prompt with its first response, or a further response alone, whose keys are gathered, the prompt's before
its own. Bottom-right causal attention then shows each query its prompt and the earlier tokens of its own response, and
a window counts positions, since keys lie in the order of their positions. Queries stay where they are.

Shape suffixes: T tokens of the stream, K gathered keys.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import varlen
from transformers import AttentionInterface

from trueup.batch.stream import Stream, on_device
from trueup.models.attention import Backend, Inputs, UnsupportedAttention, as_one_row, checked


@dataclass(frozen=True, eq=False)
class VarlenPlan:
    """The segments of a stream."""

    key_K: Tensor
    """[K] int64 stream positions of the keys, segment by segment."""
    first_T: Tensor
    """[T] int64, where among the keys each token stands first."""
    again: tuple[tuple[Tensor, Tensor], ...]
    """Of prompts of more responses, for the second, third, ... of them: tokens, each once, and where they stand."""
    query_ends: Tensor
    """[segments + 1] int32, where the queries of each segment begin and end."""
    key_ends: Tensor
    max_queries: int
    max_keys: int


def plan_varlen(stream: Stream) -> VarlenPlan:
    """Segments, and which keys each of them sees; on the stream's device."""
    keys: list[np.ndarray] = []
    again: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    queries: list[int] = []
    place = 0
    for span in stream.spans:
        prompt = np.arange(*span.prompt)
        for number, (start, stop) in enumerate(span.responses):
            keys.append(np.concatenate([prompt, np.arange(start, stop)]))
            queries.append(stop - start + (0 if number else len(prompt)))
            if number:
                again.setdefault(number, []).append((prompt, place + np.arange(len(prompt))))
            place += len(keys[-1])
    key_K = np.concatenate(keys)
    device = stream.token_T.device

    def there(values: Any, dtype: torch.dtype = torch.int64) -> Tensor:
        return on_device(torch.as_tensor(values, dtype=dtype), device)

    rounds = [[np.concatenate(part) for part in zip(*again[number], strict=True)] for number in sorted(again)]
    return VarlenPlan(
        there(key_K),
        there(np.unique(key_K, return_index=True)[1]),
        tuple((there(tokens), there(places)) for tokens, places in rounds),
        there(np.cumsum([0, *queries]), torch.int32),
        there(np.cumsum([0, *map(len, keys)]), torch.int32),
        max(queries),
        max(map(len, keys)),
    )


class _Gather(torch.autograd.Function):
    """x[key_K]; its gradient adds the copies of a prompt in the order of its responses, the same each time."""

    @staticmethod
    def forward(ctx: Any, x_THD: Tensor, plan: VarlenPlan) -> Tensor:
        ctx.plan = plan
        return x_THD.index_select(0, plan.key_K)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].index_select(0, ctx.plan.first_T)
        for token, place in ctx.plan.again:  # no token twice in one, so that nothing depends on an order
            total.index_add_(0, token, grads[0].index_select(0, place))
        return total, None


def varlen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    trueup_plan: VarlenPlan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The same function as `grouped_attention`. On a CPU the segments are computed one by one, which is slow."""
    plan = checked(trueup_plan, VarlenPlan, attention_mask, dropout, kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    compute = _one_by_one if query.device.type == "cpu" else _by_kernel
    return compute(query, key, value, plan, scale, sliding_window, softcap)[None], None


def _by_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: VarlenPlan,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """[T, heads, D] of queries [T, heads, D], keys and values [T, key heads, D]."""
    if softcap is not None:
        raise UnsupportedAttention("the model caps its attention scores, which this kernel does not")
    if value.dtype not in (torch.float16, torch.bfloat16):
        raise UnsupportedAttention("this kernel computes in half precision alone")
    output: Any = varlen.varlen_attn(
        query.to(value.dtype),  # rotary embeddings leave queries and keys in float32 where autocast is on
        _Gather.apply(key.to(value.dtype), plan),  # type: ignore[no-untyped-call]
        _Gather.apply(value, plan),  # type: ignore[no-untyped-call]
        plan.query_ends,
        plan.key_ends,
        plan.max_queries,
        plan.max_keys,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output  # type: ignore[no-any-return]


def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: VarlenPlan,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """What the kernel computes, in plain operations."""
    outputs, repeat = [], query.shape[1] // key.shape[1]
    bounds = [ends.diff().tolist() for ends in (plan.query_ends, plan.key_ends)]
    key, value = (_Gather.apply(x, plan) for x in (key, value))  # type: ignore[no-untyped-call]
    for q, k, v in zip(query.split(bounds[0]), key.split(bounds[1]), value.split(bounds[1]), strict=True):
        k, v = (x.repeat_interleave(repeat, 1).transpose(0, 1) for x in (k, v))
        scores = (q.transpose(0, 1) @ k.transpose(1, 2)) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        distance = (torch.arange(len(q)) + k.shape[1] - len(q))[:, None] - torch.arange(k.shape[1])
        seen = (distance >= 0) & (distance < (window or k.shape[1]))
        exact = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1, dtype=exact).to(v.dtype)
        outputs.append((weights @ v).transpose(0, 1))
    return torch.cat(outputs)


def inputs(stream: Stream) -> Inputs:
    return as_one_row(stream, plan_varlen(stream))


def has_kernel(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


AttentionInterface.register("trueup_varlen", varlen_attention)
BACKEND = Backend(
    "varlen",
    "trueup_varlen",
    inputs,
    "FlashAttention over segments",
    order=5,
    supports=has_kernel,
    half=True,
    foreign=True,
)
