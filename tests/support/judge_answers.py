"""What a language model at an endpoint answers to an annotator, and what it is asked."""

import math
import re
from collections.abc import Mapping
from typing import Any

from support.faulty_server import Asked

USAGE = {"prompt_tokens": 300, "completion_tokens": 1, "total_tokens": 301}
MARKED = re.compile(r"<([0-9a-f]{8})>\n(.*?)\n</\1>", re.DOTALL)


def said(text: object, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A reply in words."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish,
    }
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": USAGE}


def likely(probabilities: Mapping[str, float]) -> dict[str, Any]:
    """A reply with the probabilities of tokens."""
    top = [{"token": token, "logprob": math.log(share)} for token, share in probabilities.items()]
    reply = said(max(probabilities, key=lambda token: probabilities[token]), "length")
    reply["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return reply


def first_with(probability: float) -> dict[str, Any]:
    """A reply that prefers the response shown first as much as that."""
    return likely({"1": probability, "2": 1 - probability})


def text_of(asked: Asked) -> str:
    """All that a request says."""
    return str(asked.body["messages"][0]["content"])


def shown(asked: Asked) -> tuple[str, str]:
    """The two responses, in the order in which they are shown, out of the marks around them."""
    marked = MARKED.findall(text_of(asked))
    return marked[-2][1], marked[-1][1]
