"""Requests to a chat model at an endpoint: as it takes them, within a budget, and none of them paid for twice."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from trueup import errors, files, record_cache, stop, words
from trueup.annotators.budget import Budget, Reservation, Usage
from trueup.annotators.judge import SPACES
from trueup.endpoints import addresses, client
from trueup.endpoints.key import Key
from trueup.endpoints.parameters import FORMS, UNFINISHED, Parameters
from trueup.settings.annotator_kinds import EndpointAnnotator

T = TypeVar("T")
RequestFields = Mapping[str, Any]
TopTokens = tuple[tuple[str, float], ...]

PATH = "/chat/completions"
THOUGHTS_BEGIN = re.compile(r"\s*(?:<(?:think|thinking|reasoning|thought)>|\[THINK\])", re.IGNORECASE)
THOUGHTS_END = re.compile(r".*(?:</(?:think|thinking|reasoning|thought)>|\[/THINK\])", re.I | re.DOTALL)
"""Up to the last such mark: a thought may mention one, and a template may have opened it in the question."""
LONGEST_END = 40  # characters that tokens behind an answer, which end it, may have
REASONING = ("reasoning_content", "reasoning")  # where servers put thoughts that they take out of the answer
FORM_FIELDS = {"auto": FORMS[0], "choice": FORMS[1], "free": ""}  # `annotator.form` -> the field that is tried first
MOST_TOKENS = 2**53  # what a reply says it took is no count from there on
FORMAT = 1  # of what is kept and how its key is made; a new one begins a new table in the same file
TABLE = f"judgements_{FORMAT}"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as the endpoint gave it. Example: `Answer("1", (("1", -0.1), (" 2", -2.4)))`."""

    text: str  # behind the model's thoughts, where it thinks before it answers
    top: TopTokens | None = None
    """Likeliest tokens at the answer's first position that is more than spaces, with their log-probabilities in nats;
    None where the endpoint gave none. An entry that is no such pair has NaN."""
    cut_off: bool = False


class NoAnswer(StrEnum):
    ABSENT = "the endpoint's reply holds no answer"
    DECLINED = "the model refused to answer"
    FILTERED = "the endpoint's content filter cut the answer off"
    CUT_OFF = "the answer was cut off at its longest length"
    THINKING = "the model's thoughts were cut off, and no answer came"


RecordCache = record_cache.RecordCache
Reply = Answer | NoAnswer | client.Refused  # what comes of a request; `Refused` where the endpoint does not take it


class Asker:
    """Sends requests to one model, several at a time, in the first of `FORMS` that it takes."""

    def __init__(
        self, endpoint: client.Endpoint, name: str, budget: Budget, cache: RecordCache | None, *,
        form: str = FORMS[0],
    ) -> None:  # fmt: skip
        self.endpoint, self.name, self.budget, self.cache = endpoint, name, budget, cache
        self.places = [addresses.place_of(one) for one in endpoint.base_urls]
        """With several addresses what one answers is kept for all of them: whoever gives them says they are alike."""
        self.place = self.places[0]
        self._form = form
        self._known: Parameters | None = None
        self._answered = False
        self._mark, self._marked = {"answers of": name}, cache is None
        """Stands in the cache for that there are answers; and whether it is there."""

    def refuse_dead(self) -> None:
        """Look for the server before it is needed; that it is gone is a warning where answers of it are kept."""
        try:
            addresses.refuse_dead("annotator.base_url", self.endpoint.base_urls)
        except errors.AnnotatorError as error:
            if self._from_cache(self._mark, ("", "")) is None:
                raise
            words.logger.warning(f"{error}. What it answered before serves as long as nothing else is asked")

    @property
    def parameters(self) -> Parameters:
        """How requests are sent, as far as is known: by an earlier run too, so that its answers are found again."""
        if self._known is None:
            kept = self._from_cache(self._about(), ("", ""))
            self._known = Parameters(**kept) if kept else Parameters(form=self._form)
            self._answered = kept is not None
            self._tell(Parameters(form=self._form))
        return self._known

    def recall(self, request: RequestFields, labels: tuple[str, str] = ("", "")) -> dict[str, Any] | None:
        return self._from_cache(self.parameters.body(request), labels)

    def keep(self, request: RequestFields, answer: Mapping[str, Any], labels: tuple[str, str] = ("", "")) -> None:
        """Keep an answer, JSON-ready, for the next one that makes the same request."""
        self._to_cache(self.parameters.body(request), answer, labels)
        if not self._marked:
            self._marked = True
            self._to_cache(self._mark, {}, ("", ""))

    def ask(
        self, requests: Sequence[RequestFields], read: Callable[[int, Reply], T], *, remedy: str = "",
        room: int = 0,
    ) -> tuple[list[T], Usage]:  # fmt: skip
        """Send requests, as many at a time as the budget allows for: what `read` made of each, and what they took.
        `read` takes the number of a request and what came of it, as soon as it is there. One request alone finds out
        how the endpoint wants to be asked; what it refuses over a parameter is sent again as it takes it, and how is
        kept once that was answered. `remedy` is said behind that the budget allows for no more, where answers are kept;
        `room` are tokens for the answers of a model that turns out to think before it answers."""
        made: dict[int, T] = {}
        used = Usage()
        waiting: dict[int, Parameters | None] = dict.fromkeys(range(len(requests)))
        """With what is to be tried, where that is not what is known."""
        while waiting:
            stop.check()
            known = self.parameters
            way = next(iter(waiting.values())) or known
            numbers = [number for number, one in waiting.items() if (one or known) == way]
            numbers = numbers if self._answered else numbers[:1]
            bodies = [way.body(requests[number]) for number in numbers]
            held = self._reserved(bodies, way, remedy if self.cache is not None else "")
            under_way, bodies = dict(enumerate(held)), bodies[: len(held)]
            try:
                # closed at an error, so that nothing is left under way
                with closing(self.endpoint.each(PATH, bodies)) as replies:
                    for place, body in replies:
                        number = numbers[place]
                        usage = Usage(1) if isinstance(body, client.Refused) else read_usage(body)
                        used += self.budget.settle(under_way.pop(place), usage)
                        reply = body if isinstance(body, client.Refused) else read_reply(body)
                        better = _better(way, bodies[place], reply, room)
                        if better is not None:
                            waiting[number] = better
                            continue
                        del waiting[number]
                        self._answered = True
                        if not isinstance(reply, client.Refused):
                            self._learn(way)
                        made[number] = read(number, reply)
            finally:
                for reservation in under_way.values():
                    self.budget.release(reservation)
        return [made[number] for number in range(len(requests))], used

    def _learn(self, way: Parameters) -> None:
        before = self.parameters
        if way != before:
            self._known = way
            self._tell(before)
            self._to_cache(self._about(), asdict(way), ("", ""))

    def _tell(self, before: Parameters) -> None:
        for line in self.parameters.since(before):
            words.logger.warning(f"annotator {self.name}: {self.place} {line}")

    def _about(self) -> dict[str, Any]:
        return {"parameters of": self.name, "form": self._form}

    def _from_cache(self, request: RequestFields, labels: tuple[str, str]) -> dict[str, Any] | None:
        if self.cache is None:
            return None
        found = (self.cache.get(judgement_key(place, request, labels)) for place in self.places)
        return next((one for one in found if one is not None), None)

    def _to_cache(self, request: RequestFields, answer: Mapping[str, Any], labels: tuple[str, str]) -> None:
        if self.cache is not None:
            for place in self.places:
                self.cache.put(judgement_key(place, request, labels), answer)

    def totals(self, used: Usage, counts: Mapping[str, float]) -> dict[str, float]:
        cost = {"cost": used.cost} if self.budget.priced else {}
        return {
            "requests": used.requests, **counts, "tokens": used.tokens, "estimated": used.estimated, **cost
        }  # fmt: skip

    def _reserved(self, requests: Sequence[RequestFields], way: Parameters, remedy: str) -> list[Reservation]:
        """Reservations for the first of some requests as they are sent, at least for one."""
        held: list[Reservation] = []
        try:
            for request in requests:
                text = "\n".join(str(message["content"]) for message in request["messages"])
                held.append(self.budget.reserve(text, request[way.limit]))
        except errors.AnnotatorError as error:
            if not held:
                raise errors.AnnotatorError(f"annotator {self.name}: {error}{remedy}") from error
        return held


def make_asker(choice: EndpointAnnotator, *, cached: str, usage_file: Path | None = None) -> Asker:
    """The asker that the settings describe; nothing is sent yet. `cached` names the folder and file of what is cached;
    `usage_file` keeps what is used over all sittings of a run, None counts this process alone."""
    budget = Budget(
        choice.max_requests, choice.max_tokens, choice.max_cost, choice.input_price, choice.output_price,
        file=usage_file,
    )  # fmt: skip
    key = Key.from_environment(choice.key_variable)
    if not key and (far := [one for one in choice.base_url if not addresses.on_this_machine(one)]):
        raise errors.InputError(
            f"annotator.base_url {far[0]}: the environment variable {choice.key_variable} is not set; export "
            "the endpoint's key under that name (any text where it wants none), or give annotator.key_variable"
        )
    endpoint = client.Endpoint(
        choice.base_url, key=key, timeout=choice.timeout, deadline=choice.deadline, concurrency=choice.concurrency
    )  # fmt: skip
    cache = judgement_cache(files.cache_folder() / cached / f"{cached}.sqlite") if choice.cache else None
    return Asker(endpoint, choice.model, budget, cache, form=FORM_FIELDS[choice.form])


def read_reply(reply: object) -> Answer | NoAnswer:
    """The answer in a reply of /chat/completions, whatever that may be; behind thoughts, where it has some."""
    choices = _at(reply, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = _at(choice, "message")
    finish = _at(choice, "finish_reason")
    text = _at(message, "content")
    if _at(message, "refusal"):
        return NoAnswer.DECLINED
    if finish == "content_filter":
        return NoAnswer.FILTERED
    said = text if isinstance(text, str) else ""
    positions = _at(_at(choice, "logprobs"), "content")
    positions = positions if isinstance(positions, list) else []
    end, begins = THOUGHTS_END.match(said), said or "".join(map(_token, positions[:1]))
    cut_off = finish == "length" and begins.strip() and "<think>".startswith(begins.strip())  # within the mark
    if end is None and (cut_off or THOUGHTS_BEGIN.match(begins)):
        return NoAnswer.THINKING
    answer = said[end.end() :].lstrip() if end else said
    hidden = _at(_at(_at(reply, "usage"), "completion_tokens_details"), "reasoning_tokens")
    apart = any(_at(message, name) for name in REASONING)
    thought = end is not None or apart or (isinstance(hidden, int) and hidden > 0)
    if thought and not answer.strip() and finish == "length":
        return NoAnswer.THINKING
    if not isinstance(text, str):
        return NoAnswer.CUT_OFF if finish == "length" else NoAnswer.ABSENT
    return Answer(answer, _top(_behind(positions, answer) if thought else positions), finish == "length")


def _behind(positions: list[Any], answer: str) -> list[Any]:
    """The positions from the last one on at which the answer begins; none where they do not spell it."""
    for start in reversed(range(len(positions))):
        spelled = "".join(map(_token, positions[start:]))
        if len(spelled) > len(answer) + LONGEST_END:
            break
        if answer.strip() and spelled.strip(SPACES).startswith(answer.strip()):
            return positions[start:]
    return []


def _token(position: object) -> str:
    token = _at(position, "token")
    return token if isinstance(token, str) else ""


def _better(way: Parameters, body: RequestFields, reply: Reply, room: int) -> Parameters | None:
    """How to ask again, where a reply shows that this is not how the endpoint wants to be asked."""
    thinks = reply in (NoAnswer.THINKING, NoAnswer.CUT_OFF)  # some servers give thoughts nowhere
    if isinstance(reply, client.Refused):
        thinks = bool(UNFINISHED.search(reply.reason.lower()))
        if not thinks:
            return way.learned(body, reply)
    return way.with_room(room) if thinks and body[way.limit] < room else None


def read_usage(reply: object) -> Usage | None:
    """The tokens a reply says it took; None unless it says so for question and answer."""
    counts = [_at(_at(reply, "usage"), name) for name in ("prompt_tokens", "completion_tokens")]
    if all(type(count) is int and 0 <= count < MOST_TOKENS for count in counts):
        return Usage(1, *counts)
    return None


def _top(positions: list[Any]) -> TopTokens | None:
    for position in positions:
        token, entries = _at(position, "token"), _at(position, "top_logprobs")
        if isinstance(token, str) and not token.strip(SPACES) and position is not positions[-1]:
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


def judgement_key(place: str, request: Mapping[str, Any], labels: tuple[str, str]) -> str:
    """SHA-256 of all that an answer depends on: the endpoint without secrets, the request, the labels, the format."""
    content = json.dumps([FORMAT, place, request, labels], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def judgement_cache(path: Path) -> RecordCache:
    return RecordCache(path, table=TABLE, noun="judgements", without="give annotator.cache false")
