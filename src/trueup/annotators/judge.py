"""What a judge is: something that reads a question with two possible answers and says how likely it finds the first.
And how its answer becomes a verdict: by the log-probabilities of the two labels, or by words. Words are read strictly:
one label and nothing else is a verdict; all else is none. A reader that looks for the first digit finds a verdict in
answers that hold none, such as an answer that was cut off, takes back what it says first, or repeats what a response
told it to say."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trueup.feedback.labels import logistic


@dataclass(frozen=True, slots=True)
class Question:
    """Two responses laid before a judge in one order."""

    text: str  # all that the judge is told, as one text; a judge that takes messages is told it as a user's
    labels: tuple[str, str] = ("1", "2")  # the two answers; the first stands for the response shown first


@dataclass(frozen=True, slots=True)
class Verdict:
    """How likely the judge finds the first label, of the two alone: in [0, 1]."""

    first: float


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer that is neither label, or none at all."""

    reason: str  # a short phrase, the same for every answer with this fault: `the answer is neither label`
    final: bool = field(default=False, compare=False)  # whether asking again in other words cannot help


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """What a judge says of two responses, asked in both orders."""

    forward: Verdict | Unreadable
    backward: Verdict | Unreadable

    @property
    def first(self) -> float | None:
        """How likely the first of the two is the better one, the mean of both orders; None where one is unreadable.
        Exchanging the two gives exactly 1 minus it, and a judge that goes by the place alone gives exactly 0.5."""
        if isinstance(self.forward, Unreadable) or isinstance(self.backward, Unreadable):
            return None
        # (forward + 1 - backward) / 2, rounded alike on both sides of a half: 1 - p is exact for p in [0.5, 1].
        surer = 0.5 + abs(self.forward.first - self.backward.first) / 2
        return surer if self.forward.first >= self.backward.first else 1 - surer

    @property
    def flipped(self) -> bool:
        """Whether the judge prefers the same place in both orders, and so another response in each."""
        if isinstance(self.forward, Unreadable) or isinstance(self.backward, Unreadable):
            return False
        low, high = sorted((self.forward.first, self.backward.first))
        return low > 0.5 or high < 0.5


@dataclass(frozen=True, slots=True)
class Judgements:
    verdicts: tuple[Verdict | Unreadable, ...]
    totals: Mapping[str, float] = field(default_factory=dict)
    """What it took, as sums: `requests`, `cached`, `tokens`, `cost`, ..."""


class Judge(Protocol):
    """Answers questions, each by itself."""

    @property
    def name(self) -> str:
        """For messages and records."""

    def ask(self, questions: Sequence[Question]) -> Judgements:
        """An answer to each question; one that cannot be read has been asked again as often as the judge allows.
        AnnotatorError: it cannot be reached or afforded."""


EMPTY = Unreadable("the answer is empty")
NEITHER = Unreadable("the answer is neither label")
BOTH = Unreadable("the answer names both labels")
MORE = Unreadable("the answer says more than a label")
NOT_NUMBERS = Unreadable("the log-probabilities are not numbers")
NEITHER_LIKELY = Unreadable("neither label is among the likeliest tokens")
LEFT_OPEN = Unreadable("only one label is among the likeliest tokens, and it is hardly likelier than what was left out")

UNSEEN = 0.05  # share of the two labels' probability that the one which is not among the tokens given may have at most
SPACES = " \t\n\r\u2581\u0120\u010a"
"""What may stand before or after a label in a token; the last three are a space or a line as tokenizers spell them."""
WHITE = " \t\r\n"
LONGEST = 200  # characters beyond which an answer is not looked into: no way to write a label takes as many
KEYS = ("preferred", "preference", "answer", "verdict", "label", "choice")
"""Under one of these, alone, an object names a label."""
CODE_BLOCK = re.compile(r"```(?:json|text)?[ \t]*\r?\n?(.*?)\r?\n?[ \t]*```", re.DOTALL)
WRAPPED = ("{}", "{}.", "({})", '"{}"', "'{}'", "`{}`")


def by_words(text: str | None, labels: tuple[str, str]) -> Verdict | Unreadable:
    """Which label an answer is; the first stands for the response shown first.
    A label may stand in quotation marks, in parentheses or before a full stop, in a code block, or alone in an object:
    `1`, `1.`, `(1)`, `"1"`, `{"preferred": 1}`."""
    trimmed = (text or "").strip(WHITE)
    if not trimmed:
        return EMPTY
    if len(trimmed) <= LONGEST:
        block = CODE_BLOCK.fullmatch(trimmed)
        inner = block.group(1).strip(WHITE) if block else trimmed
        for place, label in enumerate(labels):
            if inner in [form.format(label) for form in WRAPPED] or _object(inner) == label:
                return Verdict(1.0 - place)
    named = [label for label in labels if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", trimmed)]
    return BOTH if len(named) > 1 else MORE if named else NEITHER


def by_log_probs(top: Sequence[tuple[str, float]], labels: tuple[str, str]) -> Verdict | Unreadable:
    """The first label's share of the probability of both, P(1) / (P(1) + P(2)) (Lee et al. 2023, arXiv 2309.00267).
    Tokens that are a label but for spaces count together. A label that is not among the likeliest tokens given has at
    most the probability of the least likely of them, and at most what all of them leave; where that is next to
    nothing it counts as nothing."""
    if not all(value <= 1e-3 for _, value in top):  # NaN, or a certainty that is more than rounded
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
    return Verdict(logistic(masses[0] - masses[1]))


def _object(text: str) -> str | None:
    """The label under the one key of a JSON object, whether it is given as text or as a number."""
    if not text.startswith("{"):
        return None
    try:
        items = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None
    if len(items) != 1 or items[0][0] not in KEYS:
        return None
    value = items[0][1]
    return str(value) if isinstance(value, str | int) else None


def _log_sum(values: Sequence[float]) -> float:
    most = max(values, default=-math.inf)
    if most == -math.inf:
        return most
    return most + math.log(math.fsum(math.exp(value - most) for value in values))
