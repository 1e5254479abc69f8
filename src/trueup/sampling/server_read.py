"""Answers of a server as responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trueup.batch.encode import Encoder
from trueup.sampling.server_dialects import Dialect
from trueup.sampling.stop import Stops

ENDED = frozenset({"stop", "eos", "eos_token", "stop_sequence", "end_turn"})
CUT = frozenset({"length", "max_tokens"})


@dataclass(frozen=True, slots=True)
class Written:
    """A response as a server gave it."""

    text: str
    ids: tuple[int, ...] | None
    log_probs: tuple[float, ...] | None
    ended: bool


def read(
    reply: Mapping[str, Any], room: int, encoder: Encoder | None, stops: Stops | None, dialect: Dialect
) -> Written | str:
    """The response in a server's answer, or why there is none: a short phrase.

    Args:
        room: longest response, in tokens.
        encoder: without one, token ids are not known.
    """
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "no choices"
    choice = choices[0]
    finish, stopped = choice.get("finish_reason"), choice.get("stop_reason")
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if finish not in ENDED and finish not in CUT:
        return f"finish_reason {finish}"
    if not isinstance(text, str):
        return "no text"
    if any("\ud800" <= one <= "\udfff" for one in text):
        return "text that is not Unicode"
    ended = finish in ENDED
    ids, log_probs = _given(choice, dialect) if encoder is not None else (None, None)
    if ids is not None and encoder is not None:
        said = encoder.text(ids)
        cut = stops.cut(said) if stops else None
        if cut is not None or isinstance(stopped, str):
            return Written(text if cut is None else cut, None, None, True)
        return Written(said, ids, log_probs, ended)
    cut = stops.cut(text) if stops else None
    if cut is not None:
        return Written(cut, None, None, True)
    if not text:
        return "empty"
    if encoder is None or (stops and ended):  # a stop text that the server took off may have ended it
        return Written(text, None, None, ended)
    return Written(text, _encoded(text, ended, room, encoder), None, ended)


def _given(
    choice: Mapping[str, Any], dialect: Dialect
) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """Token ids and their log-probabilities, where a server gives them."""
    ids = choice.get("token_ids") if dialect.takes_ids else None
    if not isinstance(ids, list) or not ids or not all(type(one) is int and one >= 0 for one in ids):
        return None, None
    given = choice.get("logprobs")
    log_probs = given.get("token_logprobs") if isinstance(given, dict) else None
    if not isinstance(log_probs, list) or len(log_probs) != len(ids):
        return tuple(ids), None
    known = all(isinstance(one, int | float) and one <= 0 for one in log_probs)
    return tuple(ids), tuple(map(float, log_probs)) if known else None


def _encoded(text: str, ended: bool, room: int, encoder: Encoder) -> tuple[int, ...] | None:
    """The text as the tokenizer writes it, which need not be how the policy wrote it; None where it says another."""
    ids = encoder.pieces.raw(text, literal=True)
    if ended:
        ids = [*ids, encoder.end_ids[0]]
    return tuple(ids) if ids and len(ids) <= room + 1 and encoder.text(ids) == text else None
