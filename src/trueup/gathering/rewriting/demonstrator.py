"""A model at an endpoint that writes demonstrations: within a budget, and none of them paid for twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trueup import stop
from trueup.annotators.answers import read_usage
from trueup.annotators.budget import Budget, Reservation, Spent, Usage
from trueup.annotators.cache import JudgementCache, judgement_key, place_of
from trueup.annotators.endpoint import connect
from trueup.endpoints.client import Refused
from trueup.errors import AnnotatorError
from trueup.feedback.groups import Discarded
from trueup.gathering.rewriting.answer import fault, read_answer
from trueup.gathering.rewriting.asking import Ask, Messages, make_asking
from trueup.gathering.rewriting.pair import Pair
from trueup.paths import cache_folder
from trueup.settings.annotator_settings import EndpointAnnotator
from trueup.words import shortened

PATH = "/chat/completions"
FEWEST = 20
"""Demonstrations below which a share of them says nothing."""
NOTHING = Usage(0, 0)


class Requests(Protocol):
    """What sends requests, several at a time: `trueup.endpoints.client.Endpoint`."""

    def each(
        self, path: str, bodies: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[int, dict[str, Any] | Refused]]:
        """The position and the answer of each, as they come in."""
        ...


@dataclass(frozen=True, slots=True)
class Drawing:
    """How demonstrations are drawn."""

    model: str
    max_tokens: int
    temperature: float
    seed: int
    """Sent along where the temperature is above 0."""


class Demonstrator:
    """Writes a demonstration for each pair.

    Args:
        place: the endpoint without what could be secret, for the cache.
        cache: None keeps nothing beside the work of the command.
        max_unusable: share of demonstrations that may be unusable before the work stops.
    """

    def __init__(
        self,
        requests: Requests,
        ask: Ask,
        drawing: Drawing,
        *,
        place: str,
        cache: JudgementCache | None,
        budget: Budget,
        max_unusable: float,
    ) -> None:
        self._requests = requests
        self._ask = ask
        self._drawing = drawing
        self._place = place
        self._cache = cache
        self._budget = budget
        self._max_unusable = max_unusable
        self._asked = 0
        self._unusable: dict[str, int] = {}

    @property
    def name(self) -> str:
        return self._drawing.model

    def write(self, pairs: Sequence[Pair]) -> tuple[list[str | Discarded], dict[str, float]]:
        """A demonstration for each pair, or why there is none; and what it took, as sums.

        Raises:
            AnnotatorError: the endpoint fails, the budget does not allow for another request, or too many
                demonstrations are unusable.
            Stopped: the user asked to stop.
        """
        bodies = [self._body(self._ask(pair)) for pair in pairs]
        keys = [judgement_key(self._place, body, ("", "")) for body in bodies]
        found: dict[str, str | Discarded] = {}
        cached = 0
        for key in dict.fromkeys(keys):
            kept = self._cache.get(key) if self._cache is not None else None
            if kept is not None:
                found[key] = str(kept["text"])
                cached += 1
        missing = {key: body for key, body in zip(keys, bodies, strict=True) if key not in found}
        spent = Spent()
        while missing:
            stop.check()
            held = self._reserved(list(missing.values()))
            some = list(missing)[: len(held)]
            took, answers = self._sent({key: missing.pop(key) for key in some}, held)
            spent += took
            found |= answers
        made = [_checked(found[key], pair) for key, pair in zip(keys, pairs, strict=True)]
        self._count(made)
        return made, self._facts(spent, cached)

    def _body(self, messages: Messages) -> dict[str, Any]:
        drawing = self._drawing
        body: dict[str, Any] = {
            "model": drawing.model,
            "messages": messages,
            "temperature": drawing.temperature,
        }
        body["max_tokens"] = drawing.max_tokens
        return body | ({"seed": drawing.seed} if drawing.temperature else {})

    def _reserved(self, bodies: Sequence[Mapping[str, Any]]) -> list[Reservation]:
        """Reservations for the first of some requests, at least for one."""
        held: list[Reservation] = []
        try:
            for body in bodies:
                text = "\n".join(str(message["content"]) for message in body["messages"])
                held.append(self._budget.reserve(text, self._drawing.max_tokens))
        except AnnotatorError as error:
            if not held:
                raise AnnotatorError(f"annotator {self.name}: {error}") from error
        return held

    def _sent(
        self, bodies: Mapping[str, Mapping[str, Any]], held: Sequence[Reservation]
    ) -> tuple[Spent, dict[str, str | Discarded]]:
        """Send requests that are paid for; each answer is kept as soon as it is there."""
        keys, spent = list(bodies), Spent()
        answers: dict[str, str | Discarded] = {}
        under_way = dict(enumerate(held))
        try:
            for number, reply in self._requests.each(PATH, list(bodies.values())):
                usage = NOTHING if isinstance(reply, Refused) else read_usage(reply)
                spent += self._budget.settle(under_way.pop(number), usage)
                answers[keys[number]] = self._answer(keys[number], reply)
        finally:
            for reservation in under_way.values():
                self._budget.release(reservation)
        return spent, answers

    def _answer(self, key: str, reply: dict[str, Any] | Refused) -> str | Discarded:
        if isinstance(reply, Refused):
            return Discarded(f"the endpoint refused the request: {shortened(reply.reason)}")
        read = read_answer(reply)
        if isinstance(read, str) and self._cache is not None:
            self._cache.put(key, {"text": read})
        return read

    def _count(self, made: Sequence[str | Discarded]) -> None:
        """Stop where too many of all so far are unusable."""
        self._asked += len(made)
        for one in made:
            if isinstance(one, Discarded):
                self._unusable[one.reason] = self._unusable.get(one.reason, 0) + 1
        unusable = sum(self._unusable.values())
        if self._asked >= FEWEST and unusable > self._max_unusable * self._asked:
            most = sorted(self._unusable.items(), key=lambda found: -found[1])[:3]
            reasons = ", ".join(f"{reason} ({number})" for reason, number in most)
            raise AnnotatorError(
                f"{self.name}: {unusable} of {self._asked} demonstrations ({unusable / self._asked:.0%}) cannot be "
                f"used, and no more than {self._max_unusable:.0%} may: {reasons}. Choose another model, or raise "
                "annotator.max_unreadable"
            )

    def _facts(self, spent: Spent, cached: int) -> dict[str, float]:
        facts = {
            "requests": float(spent.requests),
            "cached": float(cached),
            "tokens": float(spent.tokens),
            "estimated": float(spent.estimated),
        }
        return facts | ({"cost": spent.cost} if self._budget.priced else {})


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
    budget = Budget(
        choice.max_requests, choice.max_tokens, choice.max_cost, choice.input_price, choice.output_price
    )
    endpoint = connect(choice)
    cache = (
        JudgementCache(cache_folder() / "demonstrations" / "demonstrations.sqlite") if choice.cache else None
    )
    return Demonstrator(
        endpoint,
        ask,
        Drawing(choice.model, max_tokens, temperature, seed),
        place=place_of(choice.base_url),
        cache=cache,
        budget=budget,
        max_unusable=choice.max_unreadable,
    )


def _checked(found: str | Discarded, pair: Pair) -> str | Discarded:
    reason = fault(found, pair) if isinstance(found, str) else None
    return Discarded(reason) if reason else found
