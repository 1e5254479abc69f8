"""Requests to a chat model at an endpoint: within a budget, and none of them paid for twice."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from trueup import stop
from trueup.annotators.budget import Budget, Reservation, Usage
from trueup.annotators.cache import JudgementCache, judgement_key, place_of
from trueup.annotators.judge import SPACES
from trueup.endpoints.client import Endpoint, Refused, on_this_machine
from trueup.endpoints.key import Key
from trueup.errors import AnnotatorError, InputError
from trueup.files import cache_folder
from trueup.settings.annotator_settings import EndpointAnnotator

T = TypeVar("T")
RequestFields = Mapping[str, Any]
"""The body of a request to /chat/completions, with `messages` and `max_tokens`."""
TopTokens = tuple[tuple[str, float], ...]

PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the endpoint gave it. Example: `Answer("1", (("1", -0.1), (" 2", -2.4)))`."""

    text: str
    top: TopTokens | None = None
    """Likeliest tokens at the first position that is more than spaces, with their log-probabilities in nats; None where
    the endpoint gave none. An entry that is no such pair has NaN."""
    cut_off: bool = False
    """Whether it ended only as it might not be longer."""


class NoAnswer(StrEnum):
    """Why a reply holds no answer."""

    ABSENT = "the endpoint's reply holds no answer"
    DECLINED = "the model refused to answer"
    FILTERED = "the endpoint's content filter cut the answer off"
    CUT_OFF = "the answer was cut off at its longest length"


Reply = Answer | NoAnswer | Refused
"""What comes of a request; `Refused` where the endpoint does not take it."""


class Asker:
    """Sends requests to one model, several at a time.

    Args:
        name: of the model, for messages.
        budget: what it may be used for.
        cache: None keeps nothing.
    """

    def __init__(self, endpoint: Endpoint, name: str, budget: Budget, cache: JudgementCache | None) -> None:
        self.endpoint, self.name, self.budget, self.cache = endpoint, name, budget, cache
        self.place = place_of(endpoint.base_url)

    def recall(self, request: RequestFields, labels: tuple[str, str] = ("", "")) -> dict[str, Any] | None:
        """What `keep` has kept of an earlier answer to a request, in this process or another.

        Args:
            labels: the answers that the request asks for, where it asks for one of two.
        """
        return None if self.cache is None else self.cache.get(judgement_key(self.place, request, labels))

    def keep(
        self, request: RequestFields, answer: Mapping[str, Any], labels: tuple[str, str] = ("", "")
    ) -> None:
        """Keep an answer, JSON-ready, for the next one that makes the same request."""
        if self.cache is not None:
            self.cache.put(judgement_key(self.place, request, labels), answer)

    def ask(
        self, requests: Sequence[RequestFields], read: Callable[[int, Reply], T], *, remedy: str = ""
    ) -> tuple[list[T], Usage]:
        """Send requests, as many at a time as the budget allows for.

        Args:
            read: takes the number of a request and what came of it, as soon as it is there.
            remedy: what is said behind that the budget allows for no more, where answers are kept.

        Returns:
            What `read` made of each, in the order of the requests; and what they took.

        Raises:
            AnnotatorError: the endpoint cannot be reached or does not let us in, or the budget does not allow for
                another request.
            Stopped: the user asked to stop.
        """
        made: dict[int, T] = {}
        used = Usage()
        while len(made) < len(requests):
            stop.check()
            first = len(made)
            held = self._reserved(requests[first:], remedy if self.cache is not None else "")
            under_way = dict(enumerate(held, start=first))
            bodies = requests[first : first + len(held)]
            try:
                # closed at an error, so that nothing is left under way
                with closing(self.endpoint.each(PATH, bodies)) as replies:
                    for place, body in replies:
                        number = first + place
                        usage = Usage(1) if isinstance(body, Refused) else read_usage(body)
                        used += self.budget.settle(under_way.pop(number), usage)
                        made[number] = read(number, body if isinstance(body, Refused) else read_reply(body))
            finally:
                for reservation in under_way.values():
                    self.budget.release(reservation)
        return [made[number] for number in range(len(requests))], used

    def totals(self, used: Usage, counts: Mapping[str, float]) -> dict[str, float]:
        """What requests took, as sums by name.

        Args:
            counts: further ones.
        """
        cost = {"cost": used.cost} if self.budget.priced else {}
        return {
            "requests": used.requests, **counts, "tokens": used.tokens, "estimated": used.estimated, **cost
        }  # fmt: skip

    def _reserved(self, requests: Sequence[RequestFields], remedy: str) -> list[Reservation]:
        """Reservations for the first of some requests, at least for one."""
        held: list[Reservation] = []
        try:
            for request in requests:
                text = "\n".join(str(message["content"]) for message in request["messages"])
                held.append(self.budget.reserve(text, request["max_tokens"]))
        except AnnotatorError as error:
            if not held:
                raise AnnotatorError(f"annotator {self.name}: {error}{remedy}") from error
        return held


def make_asker(choice: EndpointAnnotator, *, cached: str, usage_file: Path | None = None) -> Asker:
    """The asker that the settings describe; nothing is sent yet.

    Args:
        cached: what is cached, the name of its folder and file.
        usage_file: keeps what is used over all sittings of a run; None counts this process alone.

    Raises:
        InputError: the environment variable of the key is not set, and the endpoint is not on this machine; or the
            budget or the cache cannot be used.
        CheckpointError: what was used cannot be read.
    """
    budget = Budget(
        choice.max_requests, choice.max_tokens, choice.max_cost, choice.input_price, choice.output_price,
        file=usage_file,
    )  # fmt: skip
    key = Key.from_environment(choice.key_variable)
    if not key and not on_this_machine(choice.base_url):
        raise InputError(
            f"annotator.base_url {choice.base_url}: the environment variable {choice.key_variable} is not set; export "
            "the endpoint's key under that name (any text where it wants none), or give annotator.key_variable"
        )
    endpoint = Endpoint(
        choice.base_url, key=key, timeout=choice.timeout, deadline=choice.deadline, concurrency=choice.concurrency
    )  # fmt: skip
    cache = JudgementCache(cache_folder() / cached / f"{cached}.sqlite") if choice.cache else None
    return Asker(endpoint, choice.model, budget, cache)


def read_reply(reply: object) -> Answer | NoAnswer:
    """The answer in a reply of /chat/completions, whatever that may be."""
    choices = _at(reply, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = _at(choice, "message")
    finish = _at(choice, "finish_reason")
    text = _at(message, "content")
    if _at(message, "refusal"):
        return NoAnswer.DECLINED
    if finish == "content_filter":
        return NoAnswer.FILTERED
    if not isinstance(text, str):
        return NoAnswer.CUT_OFF if finish == "length" else NoAnswer.ABSENT
    return Answer(text, _top(_at(choice, "logprobs")), finish == "length")


def read_usage(reply: object) -> Usage | None:
    """The tokens a reply says it took; None unless it says so for question and answer."""
    counts = [_at(_at(reply, "usage"), name) for name in ("prompt_tokens", "completion_tokens")]
    if all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
        return Usage(1, *counts)
    return None


def _top(logprobs: object) -> TopTokens | None:
    content = _at(logprobs, "content")
    for position in content if isinstance(content, list) else ():
        token, entries = _at(position, "token"), _at(position, "top_logprobs")
        if isinstance(token, str) and not token.strip(SPACES) and position is not content[-1]:
            continue
        return tuple(map(_pair, entries)) if isinstance(entries, list) and entries else None
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
