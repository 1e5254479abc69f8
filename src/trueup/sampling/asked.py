"""Prompts as token ids with the room that is left for a response, and what was written as responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.batch.encode import Encoder
from trueup.errors import InputError
from trueup.feedback.records import Prompt
from trueup.model_folder import context_length
from trueup.models.causal import CausalModel
from trueup.sampling.drawn import Drawn
from trueup.sampling.sampler import Sampled
from trueup.sampling.stop import Stops

MAX_NEW_TOKENS = 128
"""Longest response unless told otherwise, and at most half of what the model was made for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The prompts that leave room for a response."""

    count: int
    """Of all prompts."""
    places: tuple[int, ...]
    """Of those below, among all."""
    ids: tuple[tuple[int, ...], ...]
    rooms: tuple[int, ...]
    """Longest response to each, in tokens; at least 1."""

    def sampled(
        self,
        written: Sequence[Sequence[Drawn]],
        encoder: Encoder,
        stops: Stops | None,
        *,
        source: str,
        version: int,
    ) -> list[tuple[Sampled, ...]]:
        """The responses to each of all prompts; none to one that left no room.

        Args:
            written: for each of `ids`; `log_probs` may be empty where they are not known.
        """
        found: list[tuple[Sampled, ...]] = [()] * self.count
        for place, several in zip(self.places, written, strict=True):
            found[place] = tuple(_sampled(one, encoder, stops, source, version) for one in several)
        return found


def ask(prompts: Sequence[Prompt], encoder: Encoder, model: CausalModel, max_new_tokens: int | None) -> Asked:
    """Encode prompts as the model is asked them.

    Args:
        max_new_tokens: longest response; None takes `MAX_NEW_TOKENS`, or half of the model's positions if that is less.

    Raises:
        InputError: a prompt cannot be expressed by the tokenizer or its chat template.
    """
    positions = context_length(model.inner.config)
    most = encoder.limits.max_length if positions is None else min(encoder.limits.max_length, positions)
    if max_new_tokens is None:
        max_new_tokens = MAX_NEW_TOKENS if positions is None else min(MAX_NEW_TOKENS, max(1, positions // 2))
    places, ids, rooms = [], [], []
    for place, prompt in enumerate(prompts):
        encoded = _encoded(prompt, encoder)
        room = min(max_new_tokens, most - len(encoded))
        if encoded and room > 0:
            places.append(place)
            ids.append(tuple(encoded))
            rooms.append(room)
    return Asked(len(prompts), tuple(places), tuple(ids), tuple(rooms))


def _encoded(prompt: Prompt, encoder: Encoder) -> list[int]:
    try:
        return encoder.asked_ids(prompt)
    except InputError as error:
        if prompt.origin is None:
            raise
        raise InputError(f"{prompt.origin}: {error}") from error


def _sampled(one: Drawn, encoder: Encoder, stops: Stops | None, source: str, version: int) -> Sampled:
    text = encoder.text(one.written)
    cut = stops.cut(text) if stops else None
    if cut is not None:
        return Sampled(cut, None, None, True, source, version)
    return Sampled(text, one.written, one.log_probs or None, one.ended, source, version)
