"""What a language model at an endpoint answers to an annotator, and what it is asked."""

import math
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from support.faulty_server import Answer, ReceivedRequest

USAGE = {"prompt_tokens": 300, "completion_tokens": 1, "total_tokens": 301}
MARKED = re.compile(r"<([0-9a-f]{8})>\n(.*?)\n</\1>", re.DOTALL)


def said(text: object, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A reply in words."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
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


def text_of(asked: ReceivedRequest) -> str:
    """All that a request says."""
    return str(asked.body["messages"][0]["content"])


def shown(asked: ReceivedRequest) -> tuple[str, str]:
    """The two responses, in the order in which they are shown, out of the marks around them."""
    marked = MARKED.findall(text_of(asked))
    return marked[-2][1], marked[-1][1]


def variety(asked: ReceivedRequest) -> Answer:
    """A sound judge: prefers the response of more different letters, by as much as it has more of them."""
    first, second = (len(set(text)) for text in shown(asked))
    return first_with(0.5 if first == second else 0.5 + (first - second) / (2 * (first + second)))


class Until:
    """Answers as a judge does so many times, and every request after that by a fault; knows what was answered."""

    def __init__(
        self, sound: int, fault: Answer | Callable[[ReceivedRequest], Answer],
        judge: Callable[[ReceivedRequest], Answer] = variety,
    ) -> None:  # fmt: skip
        self.sound, self.fault, self.judge = sound, fault, judge
        self.answered: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, asked: ReceivedRequest) -> Answer:
        with self._lock:
            if len(self.answered) < self.sound:
                self.answered.append(text_of(asked))
                return self.judge(asked)
        return self.fault(asked) if callable(self.fault) else self.fault
