"""The padded layout: every response a row of its own, prompt repeated, padding on the right.

Shape suffixes: N rows, L longest row, S scored tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trueup.batch.stream import Stream


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """A stream unfolded into rows."""

    token_NL: Tensor
    """[N, L] int64; padding is token 0 and is not attended to."""
    mask_NL: Tensor
    """[N, L] int64, 1 on tokens and 0 on padding."""
    source_S: Tensor
    """[S] int64, place in the flattened [N * L] outputs from which each scored token is predicted."""


def padded_rows(stream: Stream) -> PaddedRows:
    """Unfold a stream; what a model without the shared prompt computes, and what the self-check compares with."""
    places = [
        torch.cat([torch.arange(*span.prompt), torch.arange(*response)])
        for span in stream.spans
        for response in span.responses
    ]
    width = max(len(place) for place in places)
    device = stream.token_T.device
    place_NL = torch.stack(
        [torch.nn.functional.pad(place, (0, width - len(place)), value=-1) for place in places]
    )
    place_NL = place_NL.to(device)
    mask_NL = place_NL >= 0
    token_NL = torch.where(mask_NL, stream.token_T[place_NL.clamp(min=0)], 0)
    row_S = torch.repeat_interleave(torch.arange(len(places), device=device), stream.length_N)
    # A source is the last prompt token or a token of the row's own response; both keep their position.
    source_S = row_S * width + stream.position_T[stream.source_S]
    return PaddedRows(token_NL, mask_NL.long(), source_S)
