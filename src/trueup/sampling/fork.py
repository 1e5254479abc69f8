"""Sequences that grow together: each prompt is computed once, and its cache is copied, reordered and thinned out.

Shape suffixes: N sequences, L tokens of the longest (padded on the left), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trueup.errors import InputError


class Fork:
    """A batch of sequences and the cache of what a model computed of them.

    Args:
        network: a transformers model with the library's own attention (`CausalModel.plain`).
        prompts: token ids, none of them empty; they may differ in length.

    Raises:
        InputError: the model keeps what it computed in a way that cannot be copied.
    """

    def __init__(self, network: Any, prompts: Sequence[Sequence[int]]) -> None:
        self._network = network
        device = next(network.parameters()).device
        width = max(len(prompt) for prompt in prompts)
        token_NL = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
        self._mask_NL = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        position_NL = (self._mask_NL.cumsum(1) - 1).clamp(min=0)
        self._position_N = position_NL[:, -1]
        self._cache: Any = None
        self.logits_NV = self._computed(token_NL, position_NL)
        """[N, V] float32, for the next token of each sequence."""
        if not hasattr(self._cache, "reorder_cache"):
            raise InputError(
                f"the model, a {type(network).__name__}, keeps no cache that can be copied, so trueup cannot sample "
                "from it in this process. Serve it, and give --sampler.engine server with --sampler.base_url"
            )

    def __len__(self) -> int:
        return len(self._mask_NL)

    def select(self, places: Sequence[int]) -> None:
        """Go on with these sequences in this order: one may be left out, or be there several times."""
        if list(places) == list(range(len(self))):
            return
        index_N = torch.tensor(list(places), device=self._mask_NL.device)
        self._cache.reorder_cache(index_N)
        self._mask_NL = self._mask_NL.index_select(0, index_N)
        self._position_N = self._position_N.index_select(0, index_N)
        self.logits_NV = self.logits_NV.index_select(0, index_N)

    def advance(self, token_N: Tensor) -> None:
        """Add a token to each sequence, and compute what comes after it."""
        self._mask_NL = torch.cat([self._mask_NL, torch.ones_like(self._mask_NL[:, :1])], 1)
        self._position_N = self._position_N + 1
        self.logits_NV = self._computed(token_N[:, None], self._position_N[:, None])

    def _computed(self, token_NL: Tensor, position_NL: Tensor) -> Tensor:
        output = self._network(
            input_ids=token_NL,
            attention_mask=self._mask_NL,
            position_ids=position_NL,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        logits_NV: Tensor = output.logits[:, -1].float()
        return logits_NV
