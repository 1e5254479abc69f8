"""A model at an endpoint that writes demonstrations: within a budget, and none of them paid for twice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trueup.annotators.asker import Asker, NoAnswer, Reply, make_asker
from trueup.endpoints.client import Refused
from trueup.errors import AnnotatorError
from trueup.feedback.groups import Discarded
from trueup.gathering.rewriting.asking import Ask, Messages, make_asking
from trueup.gathering.rewriting.pair import Pair, spoken
from trueup.settings.annotator_settings import EndpointAnnotator
from trueup.words import shortened

FEWEST = 20
"""Demonstrations below which a share of them says nothing."""
TURN = re.compile(r"(^|\n)\s*(Human|Assistant|User)\s*:|<\|[^|<>\n]{1,40}\|>")
"""What begins a further turn of a conversation, in HH's form or by a control token."""

CUT_OFF = "the demonstration was cut off at its longest length (rewrite_tokens)"
EMPTY = "the demonstration is empty"
TURNS = "the demonstration goes on with turns of a conversation"
REPEATS = "the demonstration repeats a rejected response"


@dataclass(frozen=True, slots=True)
class Drawing:
    """How demonstrations are drawn."""

    max_tokens: int
    temperature: float
    seed: int
    """Sent along where the temperature is above 0."""


class Demonstrator:
    """Writes a demonstration for each pair.

    Args:
        ask: puts a pair to the model.
        max_unusable: share of demonstrations that may be unusable before the work stops.
    """

    def __init__(self, asker: Asker, ask: Ask, drawing: Drawing, *, max_unusable: float) -> None:
        self._asker, self._ask, self._drawing, self._max_unusable = asker, ask, drawing, max_unusable
        self._asked = 0
        self._unusable: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._asker.name

    def write(self, pairs: Sequence[Pair]) -> tuple[list[str | Discarded], dict[str, float]]:
        """A demonstration for each pair, or why there is none; and what it took, as sums.

        Raises:
            AnnotatorError: the endpoint fails, the budget does not allow for another request, or too many
                demonstrations are unusable.
            Stopped: the user asked to stop.
        """
        requests = [self._request(self._ask(pair)) for pair in pairs]
        once = [request for place, request in enumerate(requests) if request not in requests[:place]]
        recalled = [self._asker.recall(request) for request in once]
        missing = [request for request, kept in zip(once, recalled, strict=True) if kept is None]

        def read(number: int, reply: Reply) -> str | Discarded:
            found = read_demonstration(reply)
            if isinstance(found, str):
                self._asker.keep(missing[number], {"text": found})
            return found

        written, spent = self._asker.ask(missing, read)
        new = iter(written)
        found = [next(new) if kept is None else str(kept["text"]) for kept in recalled]
        made = [
            _usable(found[once.index(request)], pair) for request, pair in zip(requests, pairs, strict=True)
        ]
        self._count(made)
        return made, self._asker.facts(spent, cached=len(once) - len(missing))

    def _request(self, messages: Messages) -> dict[str, Any]:
        drawing = self._drawing
        request = {
            "model": self.name,
            "messages": messages,
            "temperature": drawing.temperature,
            "max_tokens": drawing.max_tokens,
        }
        return request | ({"seed": drawing.seed} if drawing.temperature else {})

    def _count(self, made: Sequence[str | Discarded]) -> None:
        """Stop where too many of all so far are unusable."""
        self._asked += len(made)
        self._unusable.update(one.reason for one in made if isinstance(one, Discarded))
        unusable = self._unusable.total()
        if self._asked >= FEWEST and unusable > self._max_unusable * self._asked:
            reasons = ", ".join(f"{reason} ({number})" for reason, number in self._unusable.most_common(3))
            raise AnnotatorError(
                f"{self.name}: {unusable} of {self._asked} demonstrations ({unusable / self._asked:.0%}) cannot be "
                f"used, and no more than {self._max_unusable:.0%} may: {reasons}. Choose another model, or raise "
                "annotator.max_unreadable"
            )


def load_demonstrator(
    choice: EndpointAnnotator,
    *,
    template: str,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> Demonstrator:
    """Who writes demonstrations, by the settings of an annotator; nothing is sent yet.

    Args:
        template: `answer`, `improve`, or a file with a Jinja template.

    Raises:
        InputError: the template, the budget, the key's environment variable or the folder of the cache cannot be used.
    """
    ask = make_asking(template, choice.instruction)
    asker = make_asker(choice, cached="demonstrations")
    return Demonstrator(
        asker, ask, Drawing(max_tokens, temperature, seed), max_unusable=choice.max_unreadable
    )


def read_demonstration(reply: Reply) -> str | Discarded:
    """What a reply says, or why that is nothing to imitate."""
    if isinstance(reply, Refused):
        return Discarded(f"the endpoint refused the request: {shortened(reply.reason)}")
    if isinstance(reply, NoAnswer):
        return Discarded(CUT_OFF if reply is NoAnswer.CUT_OFF else reply.value)
    if reply.cut_off:
        return Discarded(CUT_OFF)
    return reply.text.strip() or Discarded(EMPTY)


def fault(text: str, pair: Pair) -> str | None:
    """Why a demonstration cannot take the place of a pair's chosen response; None where it can."""
    if TURN.search(text):
        return TURNS
    if any(text.strip() == spoken(one.content).strip() for one in pair.rejected):
        return REPEATS
    return None


def _usable(found: str | Discarded, pair: Pair) -> str | Discarded:
    why = fault(found, pair) if isinstance(found, str) else None
    return Discarded(why) if why else found
