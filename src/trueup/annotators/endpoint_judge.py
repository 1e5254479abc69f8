"""A language model behind an OpenAI-compatible endpoint as a judge."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, cast

from trueup import stop
from trueup.annotators.answers import Answer, read_reply, read_usage
from trueup.annotators.budget import Budget, Reservation, Spent, Usage
from trueup.annotators.cache import JudgementCache, judgement_key, place_of
from trueup.annotators.judge import Heard, Question, Unreadable, Verdict
from trueup.annotators.ways import ANSWER, LOG_PROBS, WAYS, Read, Way
from trueup.endpoints.client import Endpoint, Refused
from trueup.errors import AnnotatorError
from trueup.settings.annotator_settings import EndpointAnnotator

logger = logging.getLogger(__name__)

PATH = "/chat/completions"
AGAIN = "Answer with one label alone, {} or {}, and nothing else."
NOTHING = Usage(0, 0)
Replies = Generator[tuple[int, dict[str, Any] | Refused], None, None]
SENTENCE = re.compile(r"(?<=[.!?])\s")
LONGEST_REASON = 160


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request."""

    read: Read
    again: bool = True
    """Whether asking again in other words may help."""


@dataclass(slots=True)
class Tally:
    """What a call of `ask` took."""

    cached: int = 0
    """Questions whose verdict was there."""
    asked_again: int = 0
    """Questions that were put once more, as the answer could not be read."""
    spent: Spent = field(default_factory=Spent)

    def facts(self, priced: bool) -> dict[str, float]:
        spent = self.spent
        return {
            "requests": spent.requests,
            "cached": self.cached,
            "asked_again": self.asked_again,
            "tokens": spent.tokens,
            "estimated": spent.estimated,
            **({"cost": spent.cost} if priced else {}),
        }


class EndpointJudge:
    """Asks each question in a request of its own, several at a time.

    An answer of which the verdict could be read is in the cache as soon as it is there; what could not be read is not
    kept, so that another run asks for it again. Which verdict a question gets depends on nothing but the question and
    the endpoint.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        choice: EndpointAnnotator,
        *,
        cache: JudgementCache | None,
        budget: Budget,
    ) -> None:
        """
        Args:
            choice: model, how verdicts are read, how often a question is asked.
            budget: what may be spent; `budget.state()` belongs into the checkpoints of a run.
        """
        self.budget = budget
        self._endpoint = endpoint
        self._choice = choice
        self._cache = cache
        self._told = False
        self._gave = False
        self._place = place_of(choice.base_url)
        self._ways = WAYS[choice.read]
        self._heard = self._ways == (ANSWER,)

    @property
    def name(self) -> str:
        return self._choice.model

    def ask(self, questions: Sequence[Question]) -> Heard:
        """See `trueup.annotators.judge.Judge`.

        Raises:
            AnnotatorError: the endpoint cannot be reached, does not let us in, or gives no log-probabilities where
                they alone are to be read; or the budget does not allow for another request. Verdicts up to then are
                in the cache.
            InputError: the cache cannot be read or written.
            Stopped: the user asked to stop.
        """
        tally = Tally()
        found: dict[Question, Verdict | Unreadable] = {}
        for question in dict.fromkeys(questions):
            known = self._remembered(question)
            if known is not None:
                found[question] = known
        tally.cached = len(found)
        open_ = [question for question in dict.fromkeys(questions) if question not in found]
        for attempt in range(self._choice.asks):
            tally.asked_again += len(open_) if attempt else 0
            outcomes = self._attempt(open_, attempt, tally)
            found.update({question: outcome.read for question, outcome in outcomes.items() if outcome.read})
            open_ = [question for question in open_ if outcomes[question].again]
        return Heard(tuple(found[question] for question in questions), tally.facts(self.budget.priced))

    def _remembered(self, question: Question) -> Verdict | None:
        """The verdict of a request that was made before, by this run or another."""
        if self._cache is None:
            return None
        for attempt in range(self._choice.asks):
            for way in WAYS[self._choice.read]:
                kept = self._cache.get(self._key(question, way, attempt))
                verdict = way.read(Answer.from_kept(kept), question.labels) if kept else None
                if isinstance(verdict, Verdict):
                    return verdict
        return None

    def _attempt(self, questions: list[Question], attempt: int, tally: Tally) -> dict[Question, Outcome]:
        """Ask each question once, in the first way in which the endpoint can answer it.

        Where nothing is known of the endpoint yet, one question alone finds out what it gives.
        """
        outcomes: dict[Question, Outcome] = {}
        alone = 0 if self._heard else 1
        for part in (questions[:alone], questions[alone:]):
            open_ = part
            for way in self._ways if part else ():
                outcomes.update(self._exchange(open_, way, attempt, tally))
                open_ = [question for question in open_ if outcomes[question].read is None]
                if not open_:
                    break
                self._fall_back(way)
            self._heard = self._heard or bool(part)
        return outcomes

    def _fall_back(self, way: Way) -> None:
        """Say, or refuse, that some answers do not hold what they are to be read from."""
        others = WAYS[self._choice.read][1:]
        if not others:
            raise AnnotatorError(
                f"annotator {self.name}: {self._place} gives no log-probabilities, and annotator.read is {way.name}; "
                "give annotator.read answer, or auto"
            )
        if not self._told:
            logger.warning(
                f"annotator {self.name}: {self._place} gives no log-probabilities; verdicts are read from its answers, "
                "each of them wholly for one response"
            )
            self._told = True
        if not self._gave:
            self._ways = others

    def _exchange(
        self, questions: Sequence[Question], way: Way, attempt: int, tally: Tally
    ) -> dict[Question, Outcome]:
        """Ask questions in one way, as many at a time as the budget allows for."""
        outcomes: dict[Question, Outcome] = {}
        while len(outcomes) < len(questions):
            stop.check()
            waiting = questions[len(outcomes) :]
            held = self._reserved([self._text(question, attempt) for question in waiting], way)
            outcomes.update(self._sent(waiting[: len(held)], held, way, attempt, tally))
        return outcomes

    def _reserved(self, texts: Sequence[str], way: Way) -> list[Reservation]:
        """Reservations for the first of some questions, at least for one."""
        held: list[Reservation] = []
        try:
            for text in texts:
                held.append(self.budget.reserve(text, way.max_tokens))
        except AnnotatorError as error:
            if not held:
                kept = "" if self._cache is None else "; verdicts up to here are kept and not paid for again"
                raise AnnotatorError(f"annotator {self.name}: {error}{kept}") from error
        return held

    def _sent(
        self, questions: Sequence[Question], held: Sequence[Reservation], way: Way, attempt: int, tally: Tally
    ) -> dict[Question, Outcome]:
        """Send requests that are paid for; each verdict is kept as soon as it is there."""
        outcomes: dict[Question, Outcome] = {}
        bodies = [self._request(question, way, attempt) for question in questions]
        under_way = dict(enumerate(held))
        try:
            replies = cast(Replies, self._endpoint.each(PATH, bodies))
            with closing(replies):  # whatever happens here, nothing is left under way
                for number, reply in replies:
                    question = questions[number]
                    usage = NOTHING if isinstance(reply, Refused) else read_usage(reply)
                    tally.spent += self.budget.settle(under_way.pop(number), usage)
                    outcomes[question] = self._outcome(question, reply, way, attempt)
        finally:
            for reservation in under_way.values():
                self.budget.release(reservation)
        return outcomes

    def _outcome(self, question: Question, reply: object, way: Way, attempt: int) -> Outcome:
        if isinstance(reply, Refused):
            if way is LOG_PROBS and "logprob" in reply.reason.lower():
                return Outcome(None)
            first, *_ = SENTENCE.split(reply.reason)  # what follows often counts this question's tokens
            reason = f"the endpoint refused the question: {first[:LONGEST_REASON]}"
            return Outcome(Unreadable(reason), again=False)
        answer = read_reply(reply)
        if isinstance(answer, Unreadable):
            return Outcome(answer)
        self._gave = self._gave or answer.top is not None
        read = way.read(answer, question.labels)
        if isinstance(read, Verdict):
            if self._cache is not None:
                self._cache.put(self._key(question, way, attempt), answer.kept(self._endpoint.redact))
            return Outcome(read, again=False)
        return Outcome(read)

    def _key(self, question: Question, way: Way, attempt: int) -> str:
        return judgement_key(self._place, self._request(question, way, attempt), question.labels)

    def _request(self, question: Question, way: Way, attempt: int) -> dict[str, Any]:
        return way.request(self._choice.model, self._text(question, attempt))

    @staticmethod
    def _text(question: Question, attempt: int) -> str:
        """What is said; after an answer that could not be read, with what an answer is to look like."""
        one, other = question.labels
        return question.text if not attempt else f"{question.text}\n\n{AGAIN.format(one, other)}"
