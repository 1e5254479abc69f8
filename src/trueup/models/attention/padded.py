"""The padded layout: every response a row of its own, prompt repeated, padding on the right.

For models whose state is sequential, and the measure that every other backend is checked against.

Shape suffixes: N rows, L longest row, S scored tokens.
"""

import torch

from trueup.batch.stream import Stream, on_device
from trueup.models.attention import Backend, Inputs


def row_places(stream: Stream) -> torch.Tensor:
    """[N, L] int64 on the stream's device: stream positions of each prompt and response, then -1."""
    places = [
        torch.cat([torch.arange(*span.prompt), torch.arange(*response)])
        for span in stream.spans
        for response in span.responses
    ]
    place_NL = torch.nn.utils.rnn.pad_sequence(places, batch_first=True, padding_value=-1)
    return on_device(place_NL, stream.token_T.device)


def inputs(stream: Stream) -> Inputs:
    """The rows of token ids, [N, L], and their mask, 0 on padding; positions are the library's to count."""
    place_NL = row_places(stream)
    count, width = place_NL.shape
    mask_NL = place_NL >= 0
    token_NL = torch.where(mask_NL, stream.token_T[place_NL.clamp(min=0)], 0)
    row_N = torch.arange(count, device=place_NL.device)
    row_S = torch.repeat_interleave(row_N, stream.length_N, output_size=len(stream.source_S))
    # A source is the last prompt token or a token of the row's own response; both keep their position.
    source_S = row_S * width + stream.position_T[stream.source_S]
    keywords = {"input_ids": token_NL, "position_ids": None, "attention_mask": mask_NL.long()}
    return Inputs(keywords, source_S)


BACKEND = Backend(
    "padded", None, inputs, "the padded layout", "prompts are repeated for every response instead", order=100
)
