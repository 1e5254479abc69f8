"""Whether what a model wrote can be imitated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trueup.feedback.groups import Discarded
from trueup.gathering.rewriting.pair import Pair, spoken

TURN = re.compile(r"(^|\n)\s*(Human|Assistant|User)\s*:|<\|[^|<>\n]{1,40}\|>")
"""What begins a further turn of a conversation, in HH's form or by a control token."""

NO_ANSWER = "the endpoint's reply holds no answer"
REFUSED = "the model refused to answer"
FILTERED = "the endpoint's content filter cut the answer off"
CUT_OFF = "the demonstration was cut off at its longest length (rewrite_tokens)"
EMPTY = "the demonstration is empty"
TURNS = "the demonstration goes on with turns of a conversation"
REPEATS = "the demonstration repeats a rejected response"


def read_answer(reply: Mapping[str, Any]) -> str | Discarded:
    """What a reply of /chat/completions says, or why that is nothing to imitate."""
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    text, finish = message.get("content"), choice.get("finish_reason")
    if message.get("refusal"):
        return Discarded(REFUSED)
    if finish == "content_filter":
        return Discarded(FILTERED)
    if finish == "length":
        return Discarded(CUT_OFF)
    if not isinstance(text, str):
        return Discarded(NO_ANSWER)
    return text.strip() or Discarded(EMPTY)


def fault(text: str, pair: Pair) -> str | None:
    """Why a demonstration cannot take the place of a pair's chosen response; None where it can."""
    if TURN.search(text):
        return TURNS
    if any(text.strip() == spoken(one.content).strip() for one in pair.rejected):
        return REPEATS
    return None
