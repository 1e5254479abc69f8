"""What an endpoint answered, and what the log-probabilities of an answer say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.annotators.budget import Usage
from trueup.annotators.judge import Unreadable, Verdict

NO_ANSWER = Unreadable("the endpoint's reply holds no answer")
REFUSED = Unreadable("the judge refused to answer")
FILTERED = Unreadable("the endpoint's content filter cut the answer off")
CUT_OFF = Unreadable("the answer was cut off at its longest length")
NOT_NUMBERS = Unreadable("the log-probabilities are not numbers")
NEITHER_LIKELY = Unreadable("neither label is among the likeliest tokens")
LEFT_OPEN = Unreadable(
    "only one label is among the likeliest tokens, and it is hardly likelier than what was left out"
)

UNSEEN = 0.05
"""Share of the two labels' probability that the one which is not among the tokens given may have at most."""
SPACES = " \t\n\r\u2581\u0120\u010a"
"""What may stand before or after a label in a token; the last three are a space or a line as tokenizers spell them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the endpoint gave it; what a verdict is read from, now or out of the cache.

    Example: `Answer("1", (("1", -0.1), (" 2", -2.4)))`.
    """

    text: str
    top: tuple[tuple[str, float], ...] | None
    """Likeliest tokens at the position of the answer with their log-probabilities in nats; None where the endpoint
    gave none."""
    cut_off: bool = False
    """Whether it ended only as it might not be longer."""

    def kept(self, redact: Callable[[str], str]) -> dict[str, Any]:
        """As it is kept on disk.

        Args:
            redact: takes out what is secret, should the endpoint repeat it.
        """
        top = None if self.top is None else [[redact(token), value] for token, value in self.top]
        return {"text": redact(self.text), "top": top, "cut_off": self.cut_off}

    @classmethod
    def from_kept(cls, kept: Mapping[str, Any]) -> Answer:
        """What `kept` was made of."""
        top = kept["top"]
        return cls(
            kept["text"],
            None if top is None else tuple((text, value) for text, value in top),
            kept["cut_off"],
        )


def read_reply(reply: object) -> Answer | Unreadable:
    """The answer in a reply of /chat/completions, whatever that may be."""
    choices = _at(reply, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = _at(choice, "message")
    finish = _at(choice, "finish_reason")
    text = _at(message, "content")
    if _at(message, "refusal"):
        return REFUSED
    if finish == "content_filter":
        return FILTERED
    if not isinstance(text, str):
        return CUT_OFF if finish == "length" else NO_ANSWER
    return Answer(text, _top(_at(choice, "logprobs")), finish == "length")


def read_usage(reply: object) -> Usage | None:
    """The tokens a reply says it took; None unless it says so for question and answer."""
    counts = [_at(_at(reply, "usage"), name) for name in ("prompt_tokens", "completion_tokens")]
    if all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
        return Usage(*counts)
    return None


def first_by_log_probs(top: Sequence[tuple[str, float]], labels: tuple[str, str]) -> Verdict | Unreadable:
    """The first label's share of the probability of both, P(1) / (P(1) + P(2)) (Lee et al. 2023, arXiv 2309.00267).

    Tokens that are a label but for spaces count together. A label that is not among the tokens given has at most the
    probability of the least likely of them, and at most what all of them leave; where that is next to nothing
    it counts as nothing.
    """
    if not all(_log_prob(value) for _, value in top):
        return NOT_NUMBERS
    masses = [_log_sum([value for token, value in top if token.strip(SPACES) == label]) for label in labels]
    found = [mass for mass in masses if mass > -math.inf]
    if not found:
        return NEITHER_LIKELY
    if len(found) == 1:
        left = 1 - math.fsum(math.exp(value) for _, value in top)
        unseen = max(0.0, min(left, math.exp(min(value for _, value in top))))
        if unseen > UNSEEN * (unseen + math.exp(found[0])):
            return LEFT_OPEN
        return Verdict(1.0 if masses[0] > -math.inf else 0.0)
    return Verdict(_sigmoid(masses[0] - masses[1]))


def _top(logprobs: object) -> tuple[tuple[str, float], ...] | None:
    """The likeliest tokens at the first position that is more than spaces; an entry that is no pair is kept as NaN."""
    content = _at(logprobs, "content")
    for position in content if isinstance(content, list) else ():
        token, entries = _at(position, "token"), _at(position, "top_logprobs")
        if isinstance(token, str) and not token.strip(SPACES) and position is not content[-1]:
            continue
        if isinstance(entries, list) and entries:
            return tuple(_pair(entry) for entry in entries)
        return None
    return None


def _pair(entry: object) -> tuple[str, float]:
    token, value = _at(entry, "token"), _at(entry, "logprob")
    if not isinstance(token, str) or not isinstance(value, int | float) or isinstance(value, bool):
        return "", math.nan
    try:
        return token, float(value)
    except OverflowError:  # JSON knows integers of any length
        return token, math.nan


def _at(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _log_prob(value: float) -> bool:
    return value <= 1e-3  # also refuses NaN; rounding can bring a certainty a little above 0


def _log_sum(values: Sequence[float]) -> float:
    most = max(values, default=-math.inf)
    if most == -math.inf:
        return most
    return most + math.log(math.fsum(math.exp(value - most) for value in values))


def _sigmoid(difference: float) -> float:
    small = math.exp(-abs(difference))
    return 1 / (1 + small) if difference >= 0 else small / (1 + small)
