"""One more token of every sequence as work that is recorded once and replayed, in buffers of one size.

Otherwise a GPU waits for the host, which launches hundreds of kernels for each token. A recording is tried on the last
token of every sequence, whose logits are known: one that gives others is not used. Shape suffixes: N sequences,
L tokens of the longest, R tokens that there is room for, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, StaticLayer

from trueup.parallel.processes import size

Work = Callable[[], None]
Pair = tuple[torch.Tensor, torch.Tensor]


def graph(work: Work) -> Work:
    """The work as a CUDA graph; it is done once before, so that kernels and cast weights are there."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        work()
    torch.cuda.current_stream().wait_stream(aside)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        work()
    return recorded.replay


RECORDERS: dict[str, Callable[[Work], Work]] = {"cuda": graph}
"""By type of device."""
REFUSED: set[type] = set()
"""Networks whose steps are not recorded, as that failed."""
WORTH = 16
"""Steps, fewer of which are not recorded: recording takes about three."""


def pairs_of(network: Any, cache: Any, device: torch.device) -> list[Pair] | None:
    """Keys and values of each layer, where steps can be recorded: in one process, every layer caching every token."""
    layers = getattr(cache, "layers", ())
    fits = bool(layers) and all(type(one) is DynamicLayer for one in layers)
    if not fits or device.type not in RECORDERS or type(network) in REFUSED or size() > 1:
        return None
    return [(one.keys, one.values) for one in layers]


class Steps:
    """Steps of a batch, recorded: `advance` gives the logits that follow a further token.

    Args:
        pairs: keys and values of each layer, [N, heads, L, size].
        mask_NL: which tokens are there.
        token_N, position_N: the last of them, and where it stands.
        logits_NV: float32, what follows it.
        room: how many more there may be.

    Raises:
        RuntimeError: It cannot be recorded, or gives other logits.
    """

    def __init__(
        self, network: Any, pairs: Sequence[Pair], mask_NL: torch.Tensor, token_N: torch.Tensor,
        position_N: torch.Tensor, logits_NV: torch.Tensor, room: int,
    ) -> None:  # fmt: skip
        self._network, self._length = network, mask_NL.shape[1]
        dtype, device = next(network.parameters()).dtype, mask_NL.device
        self._layers: list[Any] = [StaticLayer(self._length + room) for _ in pairs]
        self._cache = Cache(layers=list(self._layers))
        self._token_N1, self._position_N1 = token_N[:, None].clone(), position_N[:, None].clone()
        self._mask_N11R = torch.full(
            (len(mask_NL), 1, 1, self._length + room), torch.finfo(dtype).min, dtype=dtype, device=device
        )
        self._mask_N11R[:, 0, 0, : self._length].masked_fill_(mask_NL.bool(), 0.0)
        self._logits_NV = torch.empty_like(logits_NV)
        for layer, both in zip(self._layers, pairs, strict=True):
            layer.lazy_initialization(*both)
            for buffer, given in zip((layer.keys, layer.values), both, strict=True):
                buffer[:, :, : self._length] = given
        self._end_at(self._length - 1)
        self._replay = RECORDERS[device.type](self._compute)
        self._end_at(self._length - 1)
        self._replay()
        gap = float((self._logits_NV - logits_NV).abs().max() / logits_NV.abs().max().clamp(min=1.0))
        exact = dtype == torch.float32 and not torch.is_autocast_enabled(device.type)
        if not gap <= (limit := 1e-3 if exact else 0.1):
            raise RuntimeError(f"logits are off by {gap:.2g} of the largest one, more than {limit}")

    def _end_at(self, length: int) -> None:
        for layer in self._layers:
            layer.cumulative_length.fill_(length)

    def _compute(self) -> None:
        output = self._network(
            input_ids=self._token_N1, attention_mask=self._mask_N11R, position_ids=self._position_N1,
            past_key_values=self._cache, use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        self._logits_NV.copy_(output.logits[:, -1])

    @property
    def room(self) -> int:
        """How many more tokens there may be."""
        return self._mask_N11R.shape[-1] - self._length

    def cache(self) -> Cache:
        """Of the tokens so far, as the library's own, which grows."""
        made = DynamicCache()
        for number, one in enumerate(self._layers):
            made.update(one.keys[:, :, : self._length], one.values[:, :, : self._length], number)
        return made

    def advance(self, token_N: torch.Tensor) -> torch.Tensor:
        """[N, V] float32, overwritten by the next step."""
        self._token_N1.copy_(token_N[:, None])
        self._position_N1 += 1
        self._mask_N11R[..., self._length] = 0.0
        self._length += 1
        self._replay()
        return self._logits_NV
