"""Attention over the group stream, registered with transformers under names of our own.

Because no mask function is registered under these names, the model library builds no mask and hands its
keyword arguments down to the attention function: the layout travels as `trueup_layout`. It must never be left
to infer packing from position ids, which would cut the second response off its prompt without a word.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from trueup.batch.stream import Stream
from trueup.models.attention.plan import Block, Plan

L = TypeVar("L")

GROUPED = "trueup_grouped"
DENSE = "trueup_dense"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    trueup_layout: Plan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer over a stream, block by block.

    Args:
        query: [1, heads, T, D]; key and value: [1, key heads, T, D].
        sliding_window: positions a query sees, itself included; counted by position, not by place in the stream.
        softcap: scores become softcap tanh(scores / softcap).
        trueup_layout: the stream's plan.

    Returns:
        [1, T, heads, D], and no attention weights.
    """
    plan = _checked(trueup_layout, Plan, attention_mask, dropout, kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query_THD, key_THD, value_THD = (x[0].transpose(0, 1) for x in (query, key, value))
    outputs = [
        _block(block, query_THD, key_THD, value_THD, scale, sliding_window, softcap) for block in plan.blocks
    ]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return joined.index_select(0, plan.place_T)[None], None


def _block(
    block: Block,
    query_THD: Tensor,
    key_THD: Tensor,
    value_THD: Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """[B * Q, heads, D] for one block."""
    (B, Q), K = block.query_BQ.shape, block.key_BK.shape[1]
    heads, D = query_THD.shape[1:]
    key_heads = key_THD.shape[1]
    repeat = heads // key_heads
    # [B, key heads, repeat * Q, D]: the queries that share a key head are rows of one product.
    query = query_THD.index_select(0, block.query_BQ.reshape(-1)).view(B, Q, key_heads, repeat, D)
    query = query.permute(0, 2, 3, 1, 4).reshape(B, key_heads, repeat * Q, D)
    key, value = (
        x.index_select(0, block.key_BK.reshape(-1)).view(B, K, key_heads, -1).transpose(1, 2)
        for x in (key_THD, value_THD)
    )
    if softcap is None and not (block.short and query.device.type == "cpu"):
        mask = block.mask(window).repeat(1, 1, repeat, 1)
        output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    else:
        scores = (query @ key.transpose(-1, -2)) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores.view(B, key_heads, repeat, Q, K) + block.bias(window, scores.dtype)[:, :, None]
        weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
        output = weights.view(B, key_heads, repeat * Q, K) @ value
    output = output.view(B, key_heads, repeat, Q, -1).permute(0, 3, 1, 2, 4)
    return output.reshape(B * Q, heads, -1)


@dataclass(frozen=True, eq=False)
class DenseLayout:
    """The reference implementation's layout: one mask over the whole stream."""

    seen_TT: Tensor
    """[T, T] bool, True where the query (row) may see the key (column), sliding windows apart."""
    position_T: Tensor
    """[T] int64."""


def dense_layout(stream: Stream) -> DenseLayout:
    """The rule of the stream, written down token by token."""
    group_T, segment_T = (torch.empty(stream.num_tokens, dtype=torch.int64) for _ in range(2))
    for group, span in enumerate(stream.spans):
        for segment, (start, stop) in enumerate([span.prompt, *span.responses]):
            group_T[start:stop], segment_T[start:stop] = group, segment
    place_T = torch.arange(stream.num_tokens)
    same_group_TT = group_T[:, None] == group_T
    visible_TT = (segment_T[None] == 0) | (segment_T[:, None] == segment_T)
    seen_TT = same_group_TT & visible_TT & (place_T <= place_T[:, None])
    return DenseLayout(seen_TT.to(stream.token_T.device), stream.position_T)


def dense_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    trueup_layout: DenseLayout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The same function as `grouped_attention`, by one mask over all T x T scores: slow and plain."""
    layout = _checked(trueup_layout, DenseLayout, attention_mask, dropout, kwargs)
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    scores = (query @ key.transpose(-1, -2)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    seen_TT = layout.seen_TT
    if sliding_window is not None:
        seen_TT = seen_TT & (layout.position_T[:, None] - layout.position_T < sliding_window)
    weights = scores.masked_fill(~seen_TT, -torch.inf).softmax(
        -1, dtype=torch.promote_types(scores.dtype, torch.float32)
    )
    return (weights.to(value.dtype) @ value).transpose(1, 2), None


class UnsupportedAttention(Exception):
    """The model asks for attention that the stream's functions do not compute; the padded layout does."""


def _checked(
    layout: L | None, kind: type[L], mask: Tensor | None, dropout: float, extra: dict[str, Any]
) -> L:
    if not isinstance(layout, kind):
        raise UnsupportedAttention("the model does not hand its keyword arguments to its attention")
    if mask is not None:
        raise UnsupportedAttention("the model brings an attention mask of its own")
    if dropout:
        raise UnsupportedAttention(f"attention dropout of {dropout} is on")
    for name in ("s_aux", "position_bias", "head_mask"):
        if extra.get(name) is not None:
            raise UnsupportedAttention(f"the model's attention takes {name}")
    if extra.get("is_causal") is False:
        raise UnsupportedAttention("the model's attention is not causal")
    return layout


AttentionInterface.register(GROUPED, grouped_attention)
AttentionInterface.register(DENSE, dense_attention)
