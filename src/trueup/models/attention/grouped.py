"""Attention over the group stream, block by block: which queries meet which keys, and the products.

It is registered with transformers under a name without a mask function, so that the library builds no mask and hands
its keyword arguments down to the attention function: the plan travels as `trueup_plan`. The library must never be left
to infer packing from position ids, which would cut the second response off its prompt without a word.

A piece is a run of queries of one prompt or one response together with every key that any of them may see.
Long runs are cut into blocks of queries so that the triangle above the diagonal is not computed; pieces of
similar size are then padded to a common size and computed together, so that a micro-batch of short groups
takes a handful of operations a layer.

Shape suffixes: B pieces of a block, Q queries and K keys of a piece (padded), T tokens of the stream.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from trueup.batch.stream import GroupSpan, Stream, on_device
from trueup.models.attention import Backend, Inputs, as_one_row, checked

Span = tuple[int, int]
"""Stream positions [start, stop)."""

QUERY_BLOCK = 64
"""Queries of a piece: small enough to skip most of the triangle, large enough for an efficient product."""
LONG = 1_310_720
"""Queries times keys of a whole segment above which it goes to the fused kernel: some 1,140 tokens.

Below, softmax(QK)V is written out on a CPU: it takes as long and does no product twice, but keeps the weights for
the backward pass, half of this many a head and layer."""
LONG_QUERY_BLOCK = 256
"""Queries of a piece of a long segment; the fused kernel wants many."""
SHORT = 131_072
"""Queries times keys of a piece up to which softmax(QK)V written out beats the fused kernel on a CPU."""
OVERHEAD = 4_096
"""Queries times keys that cost about as much as starting one more block."""


@dataclass(frozen=True, slots=True)
class AttentionPiece:
    """Queries [start, stop) of one segment, and the two runs of keys they see: the prompt's and their own."""

    queries: Span
    prompt: Span
    own: Span

    @property
    def num_queries(self) -> int:
        return self.queries[1] - self.queries[0]

    @property
    def num_keys(self) -> int:
        return self.prompt[1] - self.prompt[0] + self.own[1] - self.own[0]


@dataclass(frozen=True, eq=False)
class Block:
    """Pieces computed together."""

    query_BQ: Tensor
    """[B, Q] int64 stream positions; padding repeats the piece's first query and its result is not read."""
    key_BK: Tensor
    """[B, K] int64 stream positions; padding repeats the piece's first key and is masked."""
    causal_BQK: Tensor
    """[B, Q, K] bool, True where the query may see the key, sliding windows apart."""
    distance_BQK: Tensor
    """[B, Q, K] int64, position of the query minus position of the key."""
    short: bool
    """Small enough to write softmax(QK)V out."""
    _masks: dict[tuple[int | None, torch.dtype], Tensor] = field(default_factory=dict)
    _rows: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def rows(self, heads: int, key_heads: int) -> tuple[Tensor, Tensor]:
        """[B * heads * Q] and [B * key heads * K] int64: each head of each query and key, as rows of [T * heads, D]."""
        if (heads, key_heads) not in self._rows:
            self._rows[heads, key_heads] = (_by_head(self.query_BQ, heads), _by_head(self.key_BK, key_heads))
        return self._rows[heads, key_heads]

    def mask(self, window: int | None) -> Tensor:
        """[B, 1, Q, K] bool, with a sliding window of so many positions where one is given."""
        key = (window, torch.bool)
        if key not in self._masks:
            seen_BQK = self.causal_BQK if window is None else self.causal_BQK & (self.distance_BQK < window)
            self._masks[key] = seen_BQK[:, None]
        return self._masks[key]

    def bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """[B, 1, Q, K] 0 where visible and -inf elsewhere; shared by all layers with the same window."""
        key = (window, dtype)
        if key not in self._masks:
            hidden = ~self.mask(window)
            self._masks[key] = torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, -torch.inf)
        return self._masks[key]


@dataclass(frozen=True, eq=False)
class Plan:
    """All attention work of a stream."""

    blocks: tuple[Block, ...]
    place_T: Tensor
    """[T] int64, where in the blocks' concatenated queries each stream token stands."""
    _rows: dict[int, Tensor] = field(default_factory=dict)

    def rows(self, heads: int) -> Tensor:
        """[T * heads] int64, where in the blocks' concatenated outputs, rows of D, each head of a token stands."""
        if heads not in self._rows:
            places, start = [], 0
            for block in self.blocks:
                B, Q = block.query_BQ.shape
                place = torch.arange(B * heads * Q, device=self.place_T.device).view(B, heads, Q) + start
                places.append(place.transpose(1, 2).reshape(B * Q, heads))
                start += B * heads * Q
            self._rows[heads] = torch.cat(places).index_select(0, self.place_T).flatten()
        return self._rows[heads]


def plan_attention(stream: Stream) -> Plan:
    """Cut a stream into blocks; the plan lives on the stream's device."""
    place_T = torch.empty(stream.num_tokens, dtype=torch.int64)
    blocks, offset = [], 0
    for bucket in _buckets(list(_pieces(stream.spans))):
        query_BQ, real_BQ = _places([((0, 0), piece.queries) for piece in bucket])
        key_BK, real_BK = _places([(piece.prompt, piece.own) for piece in bucket])
        place_T[query_BQ[real_BQ]] = offset + real_BQ.flatten().nonzero()[:, 0]
        offset += query_BQ.numel()
        blocks.append(_block(query_BQ, key_BK, real_BK, stream))
    return Plan(tuple(blocks), on_device(place_T, stream.token_T.device))


def _pieces(spans: Sequence[GroupSpan]) -> Iterator[AttentionPiece]:
    for span in spans:
        for prompt, own in [((0, 0), span.prompt), *((span.prompt, response) for response in span.responses)]:
            num_keys = prompt[1] - prompt[0] + own[1] - own[0]
            long = (own[1] - own[0]) * num_keys > LONG
            step = LONG_QUERY_BLOCK if long else QUERY_BLOCK
            for start in range(own[0], own[1], step):
                stop = min(start + step, own[1])
                yield AttentionPiece((start, stop), prompt, (own[0], stop))


def _buckets(pieces: list[AttentionPiece]) -> Iterator[list[AttentionPiece]]:
    """Pieces of similar size together, as long as padding them costs less than another block would."""
    pieces.sort(key=lambda piece: (piece.num_keys, piece.num_queries, piece.queries))
    bucket: list[AttentionPiece] = []
    useful = widest = 0
    for piece in pieces:
        work = piece.num_queries * piece.num_keys
        width = max(widest, piece.num_queries)
        padded = (len(bucket) + 1) * width * piece.num_keys
        if bucket and padded - useful - work > OVERHEAD + (useful + work) // 10:
            yield bucket
            bucket, useful, width = [], 0, piece.num_queries
        bucket.append(piece)
        useful, widest = useful + work, width
    if bucket:
        yield bucket


def _places(runs: Sequence[tuple[Span, Span]]) -> tuple[Tensor, Tensor]:
    """[B, width] positions of two runs each, one after the other, padded with the first; and which are real."""
    bounds = torch.tensor(runs)
    start_B, other_B = bounds[:, 0, 0], bounds[:, 1, 0]
    length_B2 = bounds[..., 1] - bounds[..., 0]
    total_B1 = length_B2.sum(1, keepdim=True)
    place = torch.arange(int(total_B1.max()))[None]
    in_first = place < length_B2[:, :1]
    places = torch.where(in_first, start_B[:, None] + place, other_B[:, None] + place - length_B2[:, :1])
    real = place < total_B1
    return torch.where(real, places, places[:, :1]), real


def _block(query_BQ: Tensor, key_BK: Tensor, real_BK: Tensor, stream: Stream) -> Block:
    device, position_T = stream.token_T.device, stream.position_T
    query_BQ, key_BK, real_BK = (on_device(one, device) for one in (query_BQ, key_BK, real_BK))
    return Block(
        query_BQ=query_BQ,
        key_BK=key_BK,
        causal_BQK=(key_BK[:, None] <= query_BQ[..., None]) & real_BK[:, None],
        distance_BQK=position_T[query_BQ][..., None] - position_T[key_BK][:, None],
        short=query_BQ.shape[1] * key_BK.shape[1] <= SHORT,
    )


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
    trueup_plan: Plan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer over a stream, block by block.

    Args:
        query: [1, heads, T, D]; key and value: [1, key heads, T, D].
        sliding_window: positions a query sees, itself included; counted by position, not by place in the stream.
        softcap: scores become softcap tanh(scores / softcap).
        trueup_plan: of the stream.

    Returns:
        [1, T, heads, D], and no attention weights.
    """
    plan = checked(trueup_plan, Plan, attention_mask, dropout, kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Rotary embeddings leave queries and keys in float32 where autocast is on.
    rows = [x[0].transpose(0, 1).reshape(-1, x.shape[-1]).to(value.dtype) for x in (query, key, value)]
    heads, key_heads = query.shape[1], key.shape[1]
    outputs = [_attend(block, rows, heads, key_heads, scale, sliding_window, softcap) for block in plan.blocks]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return joined.index_select(0, plan.rows(heads)).view(1, -1, heads, value.shape[-1]), None


def _attend(
    block: Block,
    rows: Sequence[Tensor],
    heads: int,
    key_heads: int,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """[B * heads * Q, D] for one block, of queries, keys and values as rows of [T * heads, D]."""
    (B, Q), K, repeat = block.query_BQ.shape, block.key_BK.shape[1], heads // key_heads
    query_rows, key_rows = block.rows(heads, key_heads)
    # [B, key heads, repeat * Q, D]: the queries that share a key head are rows of one product.
    query = rows[0].index_select(0, query_rows).view(B, key_heads, repeat * Q, -1)
    key, value = (x.index_select(0, key_rows).view(B, key_heads, K, -1) for x in rows[1:])
    if softcap is None and not (block.short and query.device.type == "cpu"):
        mask = block.mask(window).repeat(1, 1, repeat, 1)
        output = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    else:
        scores = (query @ key.transpose(-1, -2)).mul_(scale)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores.view(B, key_heads, repeat, Q, K).add_(block.bias(window, scores.dtype)[:, :, None])
        output = scores.softmax(-1).view(B, key_heads, repeat * Q, K) @ value
    return output.reshape(B * heads * Q, -1)


def _by_head(place_BN: Tensor, heads: int) -> Tensor:
    head_H1 = torch.arange(heads, device=place_BN.device)[:, None]
    return (place_BN[:, None] * heads + head_H1).flatten()


def inputs(stream: Stream) -> Inputs:
    return as_one_row(stream, plan_attention(stream))


AttentionInterface.register("trueup_grouped", grouped_attention)
BACKEND = Backend("grouped", "trueup_grouped", inputs, "the shared-prompt layout", order=10)
