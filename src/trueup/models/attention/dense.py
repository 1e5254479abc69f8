"""The reference implementation: one mask over all T x T scores of a stream, slow and plain."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from trueup.batch.stream import Stream
from trueup.models.attention import Backend, Inputs, as_one_row, checked


@dataclass(frozen=True, eq=False)
class DensePlan:
    """One mask over the whole stream."""

    seen_TT: Tensor
    """[T, T] bool, True where the query (row) may see the key (column), sliding windows apart."""
    position_T: Tensor


def plan_dense(stream: Stream) -> DensePlan:
    """The rule of the stream, written down token by token."""
    group_T, segment_T = (torch.empty(stream.num_tokens, dtype=torch.int64) for _ in range(2))
    for group, span in enumerate(stream.spans):
        for segment, (start, stop) in enumerate([span.prompt, *span.responses]):
            group_T[start:stop], segment_T[start:stop] = group, segment
    place_T = torch.arange(stream.num_tokens)
    same_group_TT = group_T[:, None] == group_T
    in_context_TT = (segment_T[None] == 0) | (segment_T[:, None] == segment_T)
    seen_TT = same_group_TT & in_context_TT & (place_T <= place_T[:, None])
    return DensePlan(seen_TT.to(stream.token_T.device), stream.position_T)


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
    trueup_plan: DensePlan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The same function as `grouped_attention`, by one mask over all T x T scores: slow and plain."""
    plan = checked(trueup_plan, DensePlan, attention_mask, dropout, kwargs)
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    scores = (query @ key.transpose(-1, -2)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    seen_TT = plan.seen_TT
    if sliding_window is not None:
        seen_TT = seen_TT & (plan.position_T[:, None] - plan.position_T < sliding_window)
    exact = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.masked_fill(~seen_TT, -torch.inf).softmax(-1, dtype=exact)
    return (weights.to(value.dtype) @ value).transpose(1, 2), None


def inputs(stream: Stream) -> Inputs:
    return as_one_row(stream, plan_dense(stream))


AttentionInterface.register("trueup_dense", dense_attention)
BACKEND = Backend("dense", "trueup_dense", inputs, "the dense mask")
