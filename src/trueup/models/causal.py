"""Models read as functions of streams: one root module each, whose forward pass is all that ever reads a weight.

The rest of trueup reaches a model's insides through this module alone. The identity of a set of weights is a hash that
two models share only when they are the same function. Hashing reads every weight, so that it is done where weights are
born or read; what moves away from them is named by where it began and by its moves.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Generic

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from trueup.batch.rows import LogProbs, Part, Scores
from trueup.batch.stream import Stream
from trueup.errors import InputError
from trueup.models.attention import backend
from trueup.models.head import TokenHead, UnsupportedHead, head_of
from trueup.parallel.sharding import full

Read = TypeVar("Read", bound=LogProbs | Scores, covariant=True, default=LogProbs | Scores)
INCIDENTAL = {
    *("_name_or_path", "base_model_name_or_path", "revision", "transformers_version", "peft_version"),
    *("architectures", "auto_mapping", "dtype", "torch_dtype", "use_cache", "inference_mode"),
    *("output_attentions", "output_hidden_states", "_attn_implementation"),
    *("_attn_implementation_internal", "_experts_implementation_internal"),
}
"""Keys of a model's or an adapter's configuration that do not change what it computes."""


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Every module as at inference; afterwards each as it was."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class StreamModel(nn.Module, Generic[Read]):
    """A transformers network, a way to put streams before it, and the precision it computes in.
    `attention` is chosen by `trueup.models.selfcheck`; `autocast` is the dtype of products while parameters stay
    float32, None the parameters' own."""

    def __init__(self, network: nn.Module, *, attention: str = "grouped", autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.network = network
        self.autocast = autocast
        self.products = autocast
        """What products are computed in, by autocast or by the engine that shards the model."""
        self.apart = rows_apart(self.inner.config)
        for module in self.inner.modules():
            if getattr(module, "rope_type", None) == "dynamic":
                module.register_forward_pre_hook(_forget_length)
        self.set_attention(attention)

    @property
    def inner(self) -> Any:
        """The transformers model itself, under any adapter."""
        network: Any = self.network
        return network.get_base_model() if hasattr(network, "get_base_model") else network

    @property
    def layers(self) -> list[nn.Module]:
        """Its decoder layers: what the library says is not to be split over devices."""
        kinds = set(getattr(self.inner, "_no_split_modules", None) or ())
        return [one for one in self.inner.modules() if type(one).__name__ in kinds]

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def attention(self) -> str:
        return self.backend.name

    def set_attention(self, name: str) -> None:
        self.backend = backend(name)
        self._use(self.backend.implementation)

    def _use(self, implementation: str | None) -> None:
        inner = self.inner
        inner.set_attn_implementation(implementation or plain_attention(inner))

    @contextmanager
    def plain(self) -> Iterator[Any]:
        """The network with the library's own attention, as generation needs it."""
        self._use(None)
        try:
            yield self.network
        finally:
            self._use(self.backend.implementation)

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        """The function itself: no dropout, and nothing drawn from the random state."""
        with evaluation_mode(self.network):
            yield

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the model can give beside log-probabilities without computing more than it has to."""
        return ()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that an optimizer moves, by name; it may hold more than `network` does."""
        named = self.named_parameters()
        return {name.removeprefix("network."): value for name, value in named if value.requires_grad}

    def forward(self, stream: Stream, parts: Collection[Part] = ()) -> Read:
        """What objectives read of the model, differentiable in its parameters; see `outputs`."""
        raise NotImplementedError

    def by_library(self, **row: Any) -> Any:
        """The library's own forward pass; through the root, as a model that is sharded has to be called."""
        return self.network(**row)

    def outputs(self, stream: Stream, parts: Collection[Part] = ()) -> Read:
        """Call the module: log-probabilities or scores of the stream's responses, and the parts wanted beside."""
        found: Read = self(stream, parts)
        return found

    def hidden(self, stream: Stream) -> Tensor:
        """[S, H] final hidden states from which each scored token is predicted; for `forward`."""
        kind = self.apart
        if kind is None:
            return self._hidden(stream)
        parts = stream.planned("rows apart", lambda given: given.split(kind))
        if len(parts) == 1:
            return self._hidden(stream)
        number_S = torch.cat([number for _, number in parts])
        return torch.cat([self._hidden(part) for part, _ in parts]).index_select(0, number_S.argsort())

    def _hidden(self, stream: Stream) -> Tensor:
        body = self.inner.base_model
        if body is self.inner:
            raise UnsupportedHead("the model's body cannot be told from its head")
        given = stream.planned(self.backend.name, self.backend.inputs)
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return self.backend.run(body, given).index_select(0, given.source_S)


class CausalModel(StreamModel[LogProbs]):
    """A causal language model; its `value_head` stands beside the network, so that nothing exports it."""

    def __init__(self, network: nn.Module, *, attention: str = "grouped", autocast: torch.dtype | None = None) -> None:
        super().__init__(network, attention=attention, autocast=autocast)
        self.value_head: nn.Linear | None = None
        with suppress(UnsupportedHead):  # raised again where the head is read
            head_of(self.inner)  # now, since sharding and compiling have to see the modules as they stay

    @property
    def parts(self) -> tuple[Part, ...]:
        return () if self.value_head is None else ("values",)

    def forward(self, stream: Stream, parts: Collection[Part] = ()) -> LogProbs:
        """Log-probabilities of the stream's scored tokens, and the parts asked for."""
        hidden_SH = self.hidden(stream)
        wanted = {"entropy": "entropy" in parts, "collision": "collision" in parts}
        token_S, entropy_S, collision_S = head_of(self.inner)(hidden_SH, stream.target_S, dtype=self.autocast, **wanted)
        value_S = self._values(hidden_SH) if "values" in parts else None
        return LogProbs(token_S, stream.length_N, stream.prompt_N, value_S, entropy_S, collision_S)

    def _values(self, hidden_SH: Tensor) -> Tensor:
        assert self.value_head is not None
        with torch.autocast(self.device.type, enabled=False):
            exact_SH = hidden_SH.to(torch.promote_types(hidden_SH.dtype, torch.float32))
            value_S1: Tensor = self.value_head(exact_SH)
        return value_S1[:, 0]

    def log_probs(self, stream: Stream) -> LogProbs:
        """N rows of S scored tokens in all; the stream is on the model's device."""
        return self.outputs(stream)

    @property
    def temperature(self) -> float:
        return float(getattr(self.inner.get_output_embeddings(), "temperature", 1.0))

    def set_temperature(self, temperature: float) -> None:
        """Divide logits by it before log-probabilities are taken; copies made of the model from here on do so too."""
        for module in head_of(self.inner).modules():
            if isinstance(module, TokenHead):  # it and its trained copies, where an adapter has any
                module.temperature = temperature

    def add_value_head(self) -> None:
        """Give the model a linear value head in float32, all 0: first advantages are the rewards' own."""
        try:
            width = head_of(self.inner).in_features
        except UnsupportedHead as error:
            raise InputError(
                f"a value head cannot be put on this {type(self.inner).__name__}: {error}. Choose another model, or a "
                "method without one, such as rloo"
            ) from error
        head: nn.Linear = nn.utils.skip_init(nn.Linear, width, 1, device=self.device, dtype=torch.float32)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.zero_()
        self.value_head = head


def rows_apart(config: Any) -> Callable[[int], Hashable] | None:
    """Which rows must not be computed together, as a kind by the number of their tokens; None where all may be.
    Rotary embeddings of two sorts take their frequencies from the longest row beside them: LongRoPE has one set for
    what is longer than the model's first context and one for the rest, dynamic scaling one for every length beyond
    the context. A row's own length decides here, as it does for a row alone."""
    text = config.get_text_config()
    given = getattr(text, "rope_parameters", None) or {}
    ropes = [given] if "rope_type" in given else [one for one in given.values() if isinstance(one, dict)]
    limits = {r["original_max_position_embeddings"] for r in ropes if r.get("rope_type") == "longrope"}
    dynamic = any("dynamic" in r.get("rope_type", "") for r in ropes)
    context = text.max_position_embeddings if dynamic else torch.inf
    if not limits and not dynamic:
        return None
    return lambda length: (sum(length > limit for limit in limits), length if length > context else 0)


def _forget_length(rotary: Any, _: Any) -> None:
    """Before dynamic scaling is computed: the library keeps the frequencies of the longest row of earlier calls."""
    rotary.inv_freq = rotary.original_inv_freq.to(rotary.inv_freq.device)
    rotary.max_seq_len_cached = rotary.original_max_seq_len


def plain_attention(network: Any) -> str:
    """The library's own attention that computes this model exactly: eager alone has soft caps on scores."""
    config = network.config
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return "sdpa" if getattr(network, "_supports_sdpa", False) and not capped else "eager"


def identity_of(named: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes, in order of name; the first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        data = full(tensor).detach().cpu().contiguous()
        digest.update(f"{name} {data.dtype} {tuple(data.shape)}\n".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def model_identity(network: Any) -> str:
    """Identity of every parameter and persistent buffer of a model, and of what its configuration does with them."""
    told = json.dumps(configuration(network), sort_keys=True, default=str)
    weights = identity_of(network.state_dict(keep_vars=True).items())
    return hashlib.sha256(f"{weights} {told}".encode()).hexdigest()[:16]


def configuration(network: Any) -> dict[str, Any]:
    """What decides how a model computes with its weights: its configuration, and that of each of its adapters."""
    adapters = getattr(network, "peft_config", {})
    told = {name: one.to_dict() for name, one in adapters.items()}
    found: dict[str, Any] = _telling({"config": network.config.to_dict(), "adapter": told})
    return found


def _telling(value: Any) -> Any:
    """The same without the keys that say nothing of what a model computes, and may differ between two readings."""
    if isinstance(value, Mapping):
        return {str(key): _telling(one) for key, one in value.items() if key not in INCIDENTAL}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return [_telling(one) for one in value] if isinstance(value, list | tuple) else value


def moved_identity(identity: str, step: int) -> str:
    """Identity of weights that moved after optimizer step `step`, from what they were called before."""
    return hashlib.sha256(f"{identity} moved after step {step}".encode()).hexdigest()[:16]
