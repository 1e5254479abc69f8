"""A reward model: a language model's body under a head of one number, read as a function from streams to scores.

The network is the library's own for sequence classification, and the number is the one that its forward pass gives
of the prompt and the response, so that what is trained here is scored alike elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trueup.batch.logprobs import Part, Scores
from trueup.batch.stream import Stream
from trueup.models.attention.padded import padded_rows, row_places
from trueup.models.causal import StreamModel

HEAD = "score"
"""What the library calls the head of the decoders it makes classifiers of."""


class RewardModel(StreamModel):
    """A transformers sequence-classification model of one output, read at the last token of each response.

    The body's products are computed in the precision of `autocast`, the head's in float32.
    """

    def forward(self, stream: Stream, parts: Collection[Part] = ()) -> Scores:
        """The score of each response; there are no further parts."""
        inner = self.inner
        hidden_NH = self.hidden(at_last_tokens(stream, pad_of(inner)))
        with torch.autocast(self.device.type, enabled=False):
            score_N: Tensor = getattr(inner, HEAD)(
                hidden_NH.to(torch.promote_types(hidden_NH.dtype, torch.float32))
            )[:, 0]
        return Scores(score_N)

    def outputs(self, stream: Stream, parts: Collection[Part] = ()) -> Scores:
        found: Scores = self(stream, parts)
        return found


def pad_of(inner: Any) -> int | None:
    """The token that the library takes for padding when it looks for the last one."""
    pad: int | None = inner.config.get_text_config().pad_token_id
    return pad


def at_last_tokens(stream: Stream, pad: int | None) -> Stream:
    """The stream with one place for each response: the token whose output the library reads a sequence's score from.

    That is the last one, prompt and response taken together, which is not `pad`; the very first one where all are.
    """
    place_NL = row_places(stream)
    read_NL = place_NL >= 0
    if pad is not None:
        read_NL &= stream.token_T[place_NL.clamp(min=0)] != pad
    column_L = torch.arange(place_NL.shape[1], device=place_NL.device)
    last_N = torch.where(read_NL, column_L, 0).amax(1)
    place_N = place_NL.gather(1, last_N[:, None])[:, 0]
    return replace(
        stream,
        source_S=place_N,
        target_S=stream.token_T.index_select(0, place_N),
        length_N=torch.ones_like(stream.length_N),
    )


def naive_scores(model: RewardModel, stream: Stream) -> Tensor:
    """[N] the library's own padded forward pass, at the model's own precision."""
    rows, pad = padded_rows(stream), pad_of(model.inner)
    with model.plain() as network:
        if pad is not None:
            token_NL = torch.where(rows.mask_NL == 1, rows.token_NL, pad)
            output: Any = network(input_ids=token_NL, attention_mask=rows.mask_NL, use_cache=False)
            return output.logits[:, 0].float()  # type: ignore[no-any-return]
        alone = [
            network(input_ids=token_L[mask_L == 1][None], use_cache=False).logits[0, 0]
            for token_L, mask_L in zip(rows.token_NL, rows.mask_NL, strict=True)
        ]
    return torch.stack(alone).float()
