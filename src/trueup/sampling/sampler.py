"""What a sampler is, something that writes responses to prompts, and what samplers have in common.
Prompts and responses as token ids, texts that end a response where they begin, and random numbers of each response by
itself, whatever is computed beside it. Counter-based generators (Salmon et al., 2011, Parallel random numbers: as easy
as 1, 2, 3, https://doi.org/10.1145/2063384.2063405) need nothing but a key, so every response has its own."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trueup import errors, model_folder
from trueup.batch.encode import Encoder
from trueup.feedback.records import Prompt
from trueup.models.causal import CausalModel
from trueup.parallel.sharding import fill, is_sharded, local, resharded

MAX_NEW_TOKENS = 128  # longest response unless told otherwise, and at most half of what the model was made for
SLACK = 16
"""Tokens that are decoded beyond those of a stop text: some have no text, and the first ones lack their neighbours."""

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Sampled:
    text: str  # without the tokens that end it, and up to a stop text
    ids: tuple[int, ...] | None
    """As the policy wrote them, with its end of sequence where it wrote one; None where they are not known or the
    text was cut at a stop text, so that they would say more than it."""
    log_probs: tuple[float, ...] | None
    """log p of each of `ids` in nats under the policy itself, before temperature, top-p and top-k; None where it is
    not known."""
    ended: bool
    """Whether the response is whole: the policy ended it or a stop text did; False where it ran out of tokens."""
    source: str
    version: int  # optimizer steps behind the weights that wrote it


class Sampler(Protocol):
    """Writes responses; which, is a function of its weights and the seed alone."""

    weights: "SamplingWeights"
    served: bool  # whether a server writes: of several processes the first asks it, and all sample together

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        """`responses` responses to each prompt, in order; none where the prompt leaves no room for one.
        Raises InputError, AnnotatorError where a server cannot be reached or understood, and Stopped."""


class StopTexts:
    """Some texts, at least one, none of them empty."""

    def __init__(self, texts: Sequence[str], decode: Decode) -> None:
        self.texts = tuple(texts)
        self.decode = decode
        self._reach = max(len(stop.encode("utf-8", "surrogatepass")) for stop in texts) + SLACK

    def cut(self, text: str) -> str | None:
        """What stands before the stop text that is complete first, of several the longest; None where none is there."""
        found = [(at + len(stop), at) for stop in self.texts if (at := text.find(stop)) >= 0]
        return text[: min(found)[1]] if found else None

    def complete(self, ids: Sequence[int]) -> bool:
        """Whether a stop text is complete with the last token; only the last few tokens are decoded for it."""
        recent = self.decode(ids[-self._reach :])
        return any(stop in recent for stop in self.texts) and self.cut(self.decode(ids)) is not None


@dataclass(frozen=True, slots=True)
class Completion:
    written: tuple[int, ...]  # with the token that ended it, where one did
    ended: bool  # whether the model ended it; False when it ran out of tokens
    log_probs: tuple[float, ...] = field(default=(), compare=False)
    """log p in nats of each token under the model itself: before temperature, top-p and top-k."""

    @classmethod
    def of(cls, ids: Sequence[int], log_probs: Sequence[float], ends: Collection[int]) -> Self:
        return cls(tuple(ids), bool(ids) and ids[-1] in ends, tuple(log_probs))

    @property
    def ids(self) -> tuple[int, ...]:
        return self.written[:-1] if self.ended else self.written

    def sampled(self, encoder: Encoder, stops: StopTexts | None, *, source: str, version: int) -> Sampled:
        text = encoder.text(self.written)
        cut = stops.cut(text) if stops else None
        if cut is not None:
            return Sampled(cut, None, None, True, source, version)
        return Sampled(text, self.written, self.log_probs or None, self.ended, source, version)


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    ids: tuple[int, ...]
    room: int


def encode_prompt(
    prompt: Prompt, encoder: Encoder, *, positions: int | None, max_new_tokens: int | None
) -> EncodedPrompt | None:
    """Encode a prompt as the model is asked it; None where that leaves no room for a response."""
    with errors.naming(prompt.origin):
        ids = encoder.cut_prompt_ids(prompt)
    most = encoder.limits.max_length if positions is None else min(encoder.limits.max_length, positions)
    room = min(longest_response(max_new_tokens, positions), most - len(ids))
    return EncodedPrompt(tuple(ids), room) if ids and room > 0 else None


def longest_response(max_new_tokens: int | None, positions: int | None) -> int:
    """In tokens: what was given, else `MAX_NEW_TOKENS`, or half of the model's positions if that is less."""
    if max_new_tokens is not None:
        return max_new_tokens
    return MAX_NEW_TOKENS if positions is None else min(MAX_NEW_TOKENS, max(1, positions // 2))


def positions_of(model: CausalModel | None) -> int | None:
    return model_folder.context_length(model.inner.config) if model is not None else None


class SamplingWeights:
    """Which weights a sampler writes with: the policy's own, or a copy of those at the last refresh."""

    def __init__(self, model: CausalModel | None, *, keeps: bool) -> None:
        self.version = 0
        self.changes = 0  # how often the weights to write with became others
        self.model, self._keeps = model, keeps
        self._placed = False
        self._tensors: dict[str, Tensor] = {}
        """By the names of `CausalModel.trainable`; empty where the weights are the policy's own."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The policy with the weights to write with; its own are back to the bit afterwards."""
        if self._placed:
            yield
            return
        own = self._own()
        held = [(own[name], tensor) for name, tensor in self._tensors.items()]
        current = [local(value).clone() if is_sharded(value) else value.data for value, _ in held]
        self._placed = True
        try:
            for value, tensor in held:
                _set(value, local(tensor))
            yield
        finally:
            self._placed = False
            self._own()  # gives up what several processes gathered of the others
            for (value, _), before in zip(held, current, strict=True):
                _set(value, before)

    def _own(self) -> Mapping[str, Tensor]:
        return resharded(self.model).trainable() if self.model is not None else {}

    def refresh(self, version: int) -> None:
        """Write with the policy as it is now, after `version` optimizer steps, from here on."""
        own = self._own() if self._keeps else {}
        self._tensors = {name: value.detach().clone() for name, value in own.items()}
        self.version, self.changes = version, self.changes + 1

    def state(self) -> Mapping[str, Tensor]:
        return dict(self._tensors)

    def restore(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """Back to what `state` gave; without tensors the weights are the policy's own."""
        if not tensors:
            self.refresh(version)
            return
        own = self._own()
        shapes, saved = ({name: one.shape for name, one in some.items()} for some in (own, tensors))
        if wrong := sorted({name for name, _ in shapes.items() ^ saved.items()}):
            raise errors.CheckpointError(
                f"the checkpoint's weights of the sampling policy do not fit this model, beginning with {wrong[0]}. "
                "Resume with the model and the lora settings that the run began with"
            )
        self._tensors = {name: value.detach().clone() for name, value in own.items()}
        fill(self._tensors, tensors)
        self.version, self.changes = version, self.changes + 1


def _set(value: Tensor, tensor: Tensor) -> None:
    if is_sharded(value):
        local(value).copy_(tensor)
    else:
        value.data = tensor


def uniforms(key: bytes, count: int) -> NDArray[np.float64]:
    """[count] numbers in [0, 1) that the key alone decides; fewer are the first of more."""
    digest = hashlib.sha256(key).digest()
    philox = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    return np.random.Generator(philox).random(count)


def response_keys(seed: int, prompts: Sequence[Sequence[int]], copies: int) -> list[list[bytes]]:
    """A key for each copy, made of the seed and the prompt's tokens; a repeated prompt has further responses."""
    seen: Counter[tuple[int, ...]] = Counter()
    made = []
    for prompt in prompts:
        ids = tuple(prompt)
        spelled = np.array(ids, "<i8").tobytes()
        made.append([b"%d:%d:" % (seed, seen[ids] + copy) + spelled for copy in range(copies)])
        seen[ids] += copies
    return made


def another_seed(seed: int, number: int) -> int:
    """A seed that shares nothing with `seed`; 63 bits."""
    return int.from_bytes(hashlib.sha256(b"%d/%d" % (seed, number)).digest()[:8], "little") >> 1
