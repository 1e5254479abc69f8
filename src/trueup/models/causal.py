"""A causal language model read as a function from streams to log-probabilities.

This is the only door between the rest of trueup and a model's insides.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from trueup.batch.logprobs import LogProbs
from trueup.batch.stream import Stream
from trueup.models.attention.interface import DENSE, GROUPED, dense_layout
from trueup.models.attention.plan import plan_attention
from trueup.models.head import UnsupportedHead, head_of, token_log_probs
from trueup.models.padded import padded_rows


class Layout(Enum):
    """How a stream is put before the model."""

    GROUPED = "grouped"
    """Prompt once, attention block by block."""
    DENSE = "dense"
    """Prompt once, one mask over all T x T scores: the reference implementation."""
    PADDED = "padded"
    """Prompt repeated for every response and padding on the right: for models whose state is sequential."""


class CausalModel:
    """A transformers model, a layout, and the precision it computes in.

    Args:
        network: the model; a `PeftModel` or a `PreTrainedModel`.
        layout: how streams are laid out; see `trueup.models.selfcheck` for how it is chosen.
        autocast: dtype that products are computed in while parameters stay float32; None computes in the
            parameters' own.

    Attributes:
        value_head: predicts what is to come of each token; stands beside the network, so that nothing exports it.
    """

    def __init__(
        self, network: nn.Module, *, layout: Layout = Layout.GROUPED, autocast: torch.dtype | None = None
    ) -> None:
        self.network = network
        self.value_head: nn.Linear | None = None
        self.autocast = autocast
        self.layout = layout
        self.set_layout(layout)

    @property
    def inner(self) -> Any:
        """The transformers model itself, under any adapter."""
        network: Any = self.network
        return network.get_base_model() if hasattr(network, "get_base_model") else network

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def set_layout(self, layout: Layout) -> None:
        """Use `layout` from now on."""
        self.layout = layout
        self._use_attention({Layout.GROUPED: GROUPED, Layout.DENSE: DENSE}.get(layout))

    def _use_attention(self, name: str | None) -> None:
        inner = self.inner
        inner.set_attn_implementation(name or plain_attention(inner))

    @contextmanager
    def plain(self) -> Iterator[Any]:
        """The model with the library's own attention, as generation needs it."""
        self._use_attention(None)
        try:
            yield self.network
        finally:
            self.set_layout(self.layout)

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        """The function itself: no dropout, and nothing drawn from the random state."""
        training = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(training)

    def log_probs(self, stream: Stream) -> LogProbs:
        """Log-probabilities of the stream's scored tokens, differentiable in the model's parameters.

        Args:
            stream: on the model's device.

        Returns:
            N rows of S scored tokens in all.
        """
        return self._log_probs(self.hidden(stream), stream)

    def _log_probs(self, hidden_SH: Tensor, stream: Stream) -> LogProbs:
        token_S = token_log_probs(hidden_SH, head_of(self.inner), stream.target_S, dtype=self.autocast)
        return LogProbs(token_S, stream.length_N, stream.prompt_N)

    def outputs(self, stream: Stream) -> LogProbs:
        """What objectives read of this model, with values where it has a head for them.

        See `trueup.models.policy.Policy`.
        """
        hidden_SH = self.hidden(stream)
        read = self._log_probs(hidden_SH, stream)
        if self.value_head is None:
            return read
        with torch.autocast(self.device.type, enabled=False):
            value_S = self.value_head(hidden_SH.to(self.value_head.weight.dtype))[:, 0]
        return replace(read, value_S=value_S)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that an optimizer moves, by name: the network's and the value head's."""
        named = dict(self.network.named_parameters())
        if self.value_head is not None:
            named |= {f"value_head.{name}": p for name, p in self.value_head.named_parameters()}
        return {name: p for name, p in named.items() if p.requires_grad}

    def hidden(self, stream: Stream) -> Tensor:
        """[S, H] final hidden states from which each scored token is predicted."""
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            if self.layout is Layout.PADDED:
                rows = padded_rows(stream)
                hidden_NLH = self._body(rows.token_NL, None, attention_mask=rows.mask_NL)
                return hidden_NLH.flatten(0, 1).index_select(0, rows.source_S)
            layout = _layout_of(stream, self.layout)
            hidden_1TH = self._body(stream.token_T[None], stream.position_T[None], trueup_layout=layout)
            return hidden_1TH[0].index_select(0, stream.source_S)

    def _body(self, token_ids: Tensor, position_ids: Tensor | None, **keywords: Any) -> Tensor:
        body = self.inner.base_model
        if body is self.inner:
            raise UnsupportedHead("the model's body cannot be told from its head")
        keywords.setdefault("attention_mask", None)
        output = body(input_ids=token_ids, position_ids=position_ids, use_cache=False, **keywords)
        hidden: Tensor = output.last_hidden_state
        return hidden


def plain_attention(network: Any) -> str:
    """The library's own attention that computes this model's function exactly.

    Models with a soft cap on attention scores have none but the eager one.
    """
    config = network.config
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return "sdpa" if getattr(network, "_supports_sdpa", False) and not capped else "eager"


_LAYOUTS: weakref.WeakKeyDictionary[Stream, dict[Layout, Any]] = weakref.WeakKeyDictionary()


def _layout_of(stream: Stream, layout: Layout) -> Any:
    """The stream's plan or mask, made once for policy and reference alike."""
    known = _LAYOUTS.setdefault(stream, {})
    if layout not in known:
        known[layout] = plan_attention(stream) if layout is Layout.GROUPED else dense_layout(stream)
    return known[layout]
