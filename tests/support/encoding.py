"""Feedback encoded by a tokenizer of single characters, and what the ids say."""

from collections.abc import Sequence
from typing import Any

from support.tiny_models import EOS, char_tokenizer
from trueup.batch.encode import EncodedGroup, Encoder, Limits
from trueup.feedback.records import Content, Group, Message, Prompt, Tools

IM_START, IM_END = 4, 5
ASK = (Message("user", "Why?"),)
TURNS = (Message("assistant", "So."), Message("user", "And?"), Message("assistant", "No."))


def encoder(
    template: str | None = None, *, max_length: int = 1000, max_prompt_length: int | None = None,
    end_ids: Sequence[int] = (EOS, IM_END), **tokenizer: Any,
) -> Encoder:  # fmt: skip
    made = char_tokenizer(chat_template=template, **tokenizer)
    return Encoder(made, end_ids=end_ids, limits=Limits(max_length, max_prompt_length))


def encode(encoder: Encoder, prompt: Content, *responses: Content, tools: Tools = ()) -> EncodedGroup[None]:
    return encode_group(encoder, Group(Prompt(prompt, tools=tools), responses, None))


def encode_group(encoder: Encoder, group: Group[Any]) -> EncodedGroup[Any]:
    encoded = encoder.encode(group)
    assert isinstance(encoded, EncodedGroup)
    return encoded


def decode(encoder: Encoder, ids: Any) -> str:
    text: str = encoder.tokenizer.decode(list(ids))
    return text
