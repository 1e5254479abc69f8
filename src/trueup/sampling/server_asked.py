"""Prompts as requests to a server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.batch.chat import render_prompt
from trueup.batch.encode import Encoder
from trueup.errors import InputError
from trueup.feedback.records import Message, Prompt
from trueup.sampling.asked import MAX_NEW_TOKENS
from trueup.sampling.server_dialects import Met
from trueup.sampling.streams import another_seed
from trueup.settings.sampler_settings import SamplerSettings

COMPLETIONS, CHAT = "/completions", "/chat/completions"


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt as it is sent, but for its seed."""

    path: str
    fields: Mapping[str, Any]
    """`prompt`, or `messages` with `tools`."""
    spelled: str
    """All that decides on the response beside the seed, as a text."""
    room: int
    """Longest response, in tokens."""
    exact: bool = True
    """Whether the server reads the tokens that the policy is asked with."""


def question(
    prompt: Prompt, encoder: Encoder | None, settings: SamplerSettings, met: Met, positions: int | None
) -> Question | None:
    """A prompt as a server is asked it; None where it leaves no room for a response.

    With an encoder it is completed as the policy would complete it; without one, a conversation is left to the server.

    Args:
        positions: tokens of prompt and response together.

    Raises:
        InputError: the prompt cannot be expressed by the tokenizer or its chat template.
    """
    most = settings.max_new_tokens
    if most is None:
        most = MAX_NEW_TOKENS if positions is None else min(MAX_NEW_TOKENS, max(1, positions // 2))
    if encoder is None:
        fields = _unencoded(prompt)
        path = COMPLETIONS if "prompt" in fields else CHAT
        return Question(path, fields, json.dumps(fields, sort_keys=True, default=str), most)
    try:
        ids = encoder.asked_ids(prompt)
    except InputError as error:
        raise InputError(f"{prompt.origin}: {error}" if prompt.origin else str(error)) from error
    limits = [encoder.limits.max_length] + ([positions] if positions is not None else [])
    room = min(most, min(limits) - len(ids))
    if not ids or room < 1:
        return None
    if met.dialect.takes_ids:
        return Question(COMPLETIONS, {"prompt": list(ids)}, json.dumps(ids), room)
    text, exact = text_of(ids, prompt, encoder)
    return Question(COMPLETIONS, {"prompt": text}, json.dumps(ids), room, exact)


def _unencoded(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt.content, str):
        return {"prompt": prompt.content}
    tools = {"tools": [dict(tool) for tool in prompt.tools]} if prompt.tools else {}
    return {"messages": [_message(message) for message in prompt.content], **tools}


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content, **message.extra}


def text_of(ids: Sequence[int], prompt: Prompt, encoder: Encoder) -> tuple[str, bool]:
    """A text that a server's tokenizer reads as these ids, and whether it does: it may add some of its own."""
    tokenizer = encoder.tokenizer
    written = _rendered(prompt, encoder)
    whole, inner = (str(tokenizer.decode(part, skip_special_tokens=False)) for part in (ids, ids[1:]))
    texts = [written, written.removeprefix(tokenizer.bos_token or ""), whole, inner]
    for text in texts:
        if list(tokenizer(text).input_ids) == list(ids):
            return text, True
    begun = tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    return (inner if begun else whole), False


def _rendered(prompt: Prompt, encoder: Encoder) -> str:
    """The prompt as text, before anything is cut off."""
    if encoder.condition is not None:
        prompt = encoder.condition.applied(prompt)
    if isinstance(prompt.content, str):
        return prompt.content
    pieces = render_prompt(encoder.tokenizer, prompt.content, tools=prompt.tools, special=encoder.special)
    return "".join(piece.text for piece in pieces)


def body(
    asked: Question, copy: int, settings: SamplerSettings, met: Met, end_ids: Sequence[int], *, seed: int
) -> dict[str, Any]:
    """A whole request: everything that decides how a response is drawn is said, as servers have defaults of their own.

    Args:
        copy: how many responses to the same prompt come before this one.
        end_ids: tokens that end a response; none where they are not known.
    """
    drawn = settings.decode == "sample"
    return {
        "model": met.model,
        **asked.fields,
        "max_tokens": asked.room,
        "temperature": settings.temperature if drawn else 0.0,
        "top_p": settings.top_p if drawn else 1.0,
        "n": 1,
        "stop": list(settings.stop) or None,
        "seed": request_seed(seed, copy, asked.spelled),
        **met.dialect.extra(settings, end_ids, asked.room),
    }


def request_seed(seed: int, copy: int, spelled: str) -> int:
    """31 bits, which every server takes, that the prompt and the copy decide whatever stands beside them."""
    number = int.from_bytes(hashlib.sha256(f"{copy}:{spelled}".encode()).digest()[:8], "little")
    return another_seed(seed, number) % 2**31
