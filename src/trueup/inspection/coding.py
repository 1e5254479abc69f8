"""How a model's tokenizer turns feedback into tokens: loaded without the model's weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from trueup.batch.encode import Encoder, Limits
from trueup.errors import InputError
from trueup.feedback.groups import Group
from trueup.feedback.records import Example
from trueup.feedback.turns import Turns
from trueup.model_folder import WORLD, check_model
from trueup.models.tokenizer import LoadedTokenizer, load_tokenizer

DEFAULT_LENGTH = 1024
"""As in training, where neither a limit is given nor the model is made for less."""


@dataclass(frozen=True, slots=True)
class Coding:
    """What encodes."""

    model: str
    loaded: LoadedTokenizer
    encoder: Encoder
    """As training encodes, with its limits."""
    uncut: Encoder
    """The same without limits."""
    adds_beginning: bool
    """Whether the tokenizer puts a beginning-of-sequence token before a text."""
    turns: Turns = "last"
    """Which turns of the assistant are learned."""

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self.loaded.tokenizer


def load_coding(
    model: str,
    *,
    max_length: int | None,
    max_prompt_length: int | None,
    turns: Turns = "last",
    trust_remote_code: bool = False,
    eos_token: str | None = None,
    chat_template: str | None = None,
) -> Coding:
    """Load what encodes for a model.

    Args:
        model: folder with at least a configuration and a tokenizer, or `world`.
        max_length: None takes what training would take.

    Raises:
        InputError: the folder has no tokenizer that can be loaded, or the model is not made for such lengths.
    """
    if model == WORLD:
        loaded = world_tokenizer()
    else:
        check_model(model, trust_remote_code=trust_remote_code, weights=False)
        loaded = load_tokenizer(
            model, trust_remote_code=trust_remote_code, eos_token=eos_token, chat_template=chat_template
        )
    limits = Limits(_length(model, loaded.positions, max_length), max_prompt_length)
    if max_prompt_length is not None and max_prompt_length >= limits.max_length:
        raise InputError(
            f"max_prompt_length {max_prompt_length} leaves no room for a response within max_length "
            f"{limits.max_length}; give a smaller one"
        )
    tokenizer = loaded.tokenizer
    encoders = [
        Encoder(tokenizer, end_ids=loaded.end_ids, limits=limit, condition=loaded.condition)
        for limit in (limits, Limits(sys.maxsize))
    ]
    begin = tokenizer.bos_token_id
    adds = begin is not None and list(tokenizer("a").input_ids)[:1] == [begin]
    return Coding(model, loaded, encoders[0], encoders[1], adds, turns)


def world_tokenizer() -> LoadedTokenizer:
    """That of the built-in world's model, which need not be made for it."""
    from trueup.world.model import MAX_LENGTH, make_tokenizer

    tokenizer: Any = make_tokenizer()
    return LoadedTokenizer(tokenizer, (tokenizer.eos_token_id,), MAX_LENGTH, len(tokenizer))


def whole_group(example: Example) -> Group[None]:
    """All responses of an example, whatever relates them."""
    contents = tuple(response.content for response in example.responses)
    return Group(example.prompt, contents, None)


def _length(model: str, positions: int | None, asked: int | None) -> int:
    if asked is None:
        return min(DEFAULT_LENGTH, positions or DEFAULT_LENGTH)
    if positions is not None and asked > positions:
        raise InputError(
            f"max_length {asked} is more than the {positions} positions {model} was made for. Give --max-length "
            f"{positions} or less"
        )
    return asked
