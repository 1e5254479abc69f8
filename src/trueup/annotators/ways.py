"""The ways in which an endpoint is asked for a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trueup.annotators.answers import CUT_OFF, Answer, first_by_log_probs
from trueup.annotators.judge import Unreadable, Verdict
from trueup.annotators.verdict import read_answer

Read = Verdict | Unreadable | None


@dataclass(frozen=True, slots=True)
class Way:
    """A way to ask, and to read the answer."""

    name: str
    max_tokens: int
    """Longest answer."""
    fields: Mapping[str, Any]
    """What else the request says."""
    read: Callable[[Answer, tuple[str, str]], Read]
    """The verdict in an answer; None where the endpoint did not give what it would be read from."""

    def request(self, model: str, text: str) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
            **self.fields,
        }


def _by_log_probs(answer: Answer, labels: tuple[str, str]) -> Read:
    return None if answer.top is None else first_by_log_probs(answer.top, labels)


def _by_answer(answer: Answer, labels: tuple[str, str]) -> Read:
    return CUT_OFF if answer.cut_off else read_answer(answer.text, labels)


LOG_PROBS = Way("log-probs", 1, {"logprobs": True, "top_logprobs": 20}, _by_log_probs)
ANSWER = Way("answer", 16, {}, _by_answer)
WAYS = {"auto": (LOG_PROBS, ANSWER), "log-probs": (LOG_PROBS,), "answer": (ANSWER,)}
