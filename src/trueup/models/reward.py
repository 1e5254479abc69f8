"""A reward model: a language model's body under a head of one number, read as a function from streams to scores.

The network is the library's own for sequence classification, and the number is the one that its forward pass gives
of the prompt and the response, so that what is trained here is scored alike elsewhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from trueup.batch.logprobs import Scores
from trueup.batch.stream import Stream
from trueup.models.causal import CausalModel, Layout
from trueup.models.padded import padded_rows

HEAD = "score"
"""What the library calls the head of the decoders it makes classifiers of."""


class RewardModel:
    """A transformers sequence-classification model of one output, read at the last token of each response.

    Args:
        network: the model, or a `PeftModel` of it.
        layout: how streams are laid out.
        autocast: dtype that the body's products are computed in; the head's are in float32.
    """

    def __init__(
        self, network: nn.Module, *, layout: Layout = Layout.GROUPED, autocast: torch.dtype | None = None
    ) -> None:
        self.network = network
        self.body = CausalModel(network, layout=layout, autocast=autocast)

    @property
    def inner(self) -> Any:
        """The transformers model itself, under any adapter."""
        return self.body.inner

    @property
    def device(self) -> torch.device:
        return self.body.device

    @property
    def autocast(self) -> torch.dtype | None:
        return self.body.autocast

    def set_layout(self, layout: Layout) -> None:
        """Use `layout` from now on."""
        self.body.set_layout(layout)

    def without_dropout(self) -> AbstractContextManager[None]:
        """The function itself: no dropout, and nothing drawn from the random state."""
        return self.body.without_dropout()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that an optimizer moves, by name."""
        return self.body.trainable()

    def outputs(self, stream: Stream) -> Scores:
        """The score of each response, differentiable in the model's parameters.

        Args:
            stream: on the model's device.
        """
        hidden_NH = self.body.hidden(at_last_tokens(stream, pad_of(self.inner)))
        with torch.autocast(self.device.type, enabled=False):
            score_N: Tensor = head_of(self.inner)(
                hidden_NH.to(torch.promote_types(hidden_NH.dtype, torch.float32))
            )[:, 0]
        return Scores(score_N)


def head_of(inner: Any) -> Any:
    """The head, under any adapter."""
    return getattr(inner, HEAD)


def pad_of(inner: Any) -> int | None:
    """The token that the library takes for padding when it looks for the last one."""
    pad: int | None = inner.config.get_text_config().pad_token_id
    return pad


def at_last_tokens(stream: Stream, pad: int | None) -> Stream:
    """The stream with one place for each response: the token whose output the library reads a sequence's score from.

    That is the last one, prompt and response taken together, which is not `pad`; the very first one where all are.
    """
    tokens = stream.token_T.tolist()
    places = []
    for span in stream.spans:
        for response in span.responses:
            backwards = chain(reversed(range(*response)), reversed(range(*span.prompt)))
            places.append(next((place for place in backwards if tokens[place] != pad), span.prompt[0]))
    place_N = torch.tensor(places, dtype=torch.int64, device=stream.token_T.device)
    return replace(
        stream,
        source_S=place_N,
        target_S=stream.token_T.index_select(0, place_N),
        length_N=torch.ones_like(stream.length_N),
    )


def naive_scores(body: CausalModel, stream: Stream) -> Tensor:
    """[N] the library's own padded forward pass, at the model's own precision."""
    rows, pad = padded_rows(stream), pad_of(body.inner)
    with body.plain() as network:
        if pad is not None:
            token_NL = torch.where(rows.mask_NL == 1, rows.token_NL, pad)
            output: Any = network(input_ids=token_NL, attention_mask=rows.mask_NL, use_cache=False)
            return output.logits[:, 0].float()  # type: ignore[no-any-return]
        alone = [
            network(input_ids=token_L[mask_L == 1][None], use_cache=False).logits[0, 0]
            for token_L, mask_L in zip(rows.token_NL, rows.mask_NL, strict=True)
        ]
    return torch.stack(alone).float()
