"""FlexAttention over a stream: one mask of blocks for all layers of a window, and scores capped in the kernel.

For what FlashAttention over segments does not compute: soft caps, and products in float32. It is compiled once for
streams of any length; Dong et al., 2024, https://arxiv.org/abs/2412.05496. Torch has no gradient of it on a CPU, where
the mask is the dense one.

Shape suffixes: T tokens of the stream, rounded up to whole blocks.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import flex_attention as flex
from transformers import AttentionInterface

from trueup.batch.stream import Stream, on_device
from trueup.models.attention import Backend, Inputs, as_one_row, checked, dense, varlen

BLOCK = 128


@dataclass(frozen=True, eq=False)
class FlexPlan:
    """What a token sees, told by the numbers of segments: each prompt is one, and each response."""

    segment_T: Tensor
    """[T] int64; -1 past the stream's end."""
    prompt_T: Tensor
    """[T] int64, the segment of the token's prompt."""
    position_T: Tensor
    _masks: dict[int | None, flex.BlockMask] = field(default_factory=dict)

    def seen(self, window: int | None) -> Any:
        """Whether a query (its place) sees a key, as the kernel asks."""

        def seen(batch: Any, head: Any, query: Tensor, key: Tensor) -> Tensor:
            in_context = (segment_T[key] == segment_T[query]) | (segment_T[key] == prompt_T[query])
            near = True if window is None else position_T[query] - position_T[key] < window
            return in_context & (key <= query) & near

        segment_T, prompt_T, position_T = self.segment_T, self.prompt_T, self.position_T
        return seen

    def mask(self, window: int | None) -> flex.BlockMask:
        if window not in self._masks:
            size, device = len(self.segment_T), self.segment_T.device
            made = flex.create_block_mask(self.seen(window), None, None, size, size, device, BLOCK)
            self._masks[window] = made
        return self._masks[window]


def plan_flex(stream: Stream) -> FlexPlan:
    size, device = -(-stream.num_tokens // BLOCK) * BLOCK, stream.token_T.device
    segment_T, prompt_T = (torch.full((size,), -1) for _ in range(2))
    number = 0
    for span in stream.spans:
        first = number
        for start, stop in (span.prompt, *span.responses):
            segment_T[start:stop], prompt_T[start:stop] = number, first
            number += 1
    segment_T, prompt_T = (on_device(one, device) for one in (segment_T, prompt_T))
    return FlexPlan(segment_T, prompt_T, nn.functional.pad(stream.position_T, (0, size - stream.num_tokens)))


@cache
def kernel() -> Any:
    return torch.compile(flex.flex_attention, dynamic=True)


@cache
def _capped(softcap: float | None) -> Any:
    return softcap and (lambda score, batch, head, query, key: softcap * torch.tanh(score / softcap))


def flexible_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    trueup_plan: FlexPlan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The same function as `grouped_attention`."""
    plan = checked(trueup_plan, FlexPlan, attention_mask, dropout, kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type != "cpu":
        return by_kernel(query, key, value, plan, scale, sliding_window, softcap), None
    place = torch.arange(query.shape[2])
    written = dense.DensePlan(plan.seen(None)(None, None, place[:, None], place), plan.position_T[: len(place)])
    return dense.dense_attention(module, query, key, value, None, scale, 0.0, sliding_window, softcap, written)


def by_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: FlexPlan,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """[1, tokens, heads, D] of queries [1, heads, tokens, D], keys and values."""
    tokens = query.shape[2]
    missing = (0, 0, 0, len(plan.segment_T) - tokens)
    # rotary embeddings leave queries and keys in float32 where autocast is on
    blocks = [nn.functional.pad(one.to(value.dtype), missing) for one in (query, key, value)]
    options = {"scale": scale, "enable_gqa": query.shape[1] != key.shape[1]}
    output: Tensor = kernel()(*blocks, score_mod=_capped(softcap), block_mask=plan.mask(window), **options)
    return output[:, :, :tokens].transpose(1, 2)


def inputs(stream: Stream) -> Inputs:
    return as_one_row(stream, plan_flex(stream))


AttentionInterface.register("trueup_flex", flexible_attention)
BACKEND = Backend(
    "flex", "trueup_flex", inputs, "FlexAttention", order=7, supports=varlen.has_kernel, half=True, foreign=True
)  # fmt: skip
