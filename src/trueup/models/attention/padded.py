"""The padded layout: every response a row of its own, prompt repeated, padding on the right.

For models whose state is sequential, and the measure that every other backend is checked against.

Shape suffixes: N rows, L longest row, S scored tokens.
"""

from dataclasses import dataclass

import torch

from trueup.batch.stream import Stream
from trueup.models.attention import Backend, Inputs


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """A stream unfolded into rows."""

    token_NL: torch.Tensor
    """[N, L] int64; padding is token 0 and is not attended to."""
    mask_NL: torch.Tensor
    """[N, L] int64, 1 on tokens and 0 on padding."""
    source_S: torch.Tensor
    """[S] int64, place in the flattened [N * L] outputs from which each scored token is predicted."""


def row_places(stream: Stream) -> torch.Tensor:
    """[N, L] int64 on the stream's device: stream positions of each prompt and response, then -1."""
    places = [
        torch.cat([torch.arange(*span.prompt), torch.arange(*response)])
        for span in stream.spans
        for response in span.responses
    ]
    place_NL = torch.nn.utils.rnn.pad_sequence(places, batch_first=True, padding_value=-1)
    return place_NL.to(stream.token_T.device, non_blocking=True)


def padded_rows(stream: Stream) -> PaddedRows:
    """Unfold a stream; what a model without the shared prompt computes, and what the self-check compares with."""
    place_NL = row_places(stream)
    count, width = place_NL.shape
    mask_NL = place_NL >= 0
    token_NL = torch.where(mask_NL, stream.token_T[place_NL.clamp(min=0)], 0)
    row_N = torch.arange(count, device=place_NL.device)
    row_S = torch.repeat_interleave(row_N, stream.length_N, output_size=len(stream.source_S))
    # A source is the last prompt token or a token of the row's own response; both keep their position.
    source_S = row_S * width + stream.position_T[stream.source_S]
    return PaddedRows(token_NL, mask_NL.long(), source_S)


def inputs(stream: Stream) -> Inputs:
    """The rows and their mask; positions are the library's to count."""
    rows = padded_rows(stream)
    keywords = {"input_ids": rows.token_NL, "position_ids": None, "attention_mask": rows.mask_NL}
    return Inputs(keywords, rows.source_S)


BACKEND = Backend(
    "padded",
    None,
    inputs,
    "the padded layout",
    instead="prompts are repeated for every response instead",
    order=100,
)
