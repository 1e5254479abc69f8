"""A language model behind an OpenAI-compatible endpoint as a judge."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup import errors, words
from trueup.annotators import budget, comparing
from trueup.annotators.asker import Answer, Asker, NoAnswer, Reply, make_asker
from trueup.annotators.judge import Judgements, Question, Unreadable, Verdict, by_log_probs, by_words
from trueup.annotators.template import load_question
from trueup.endpoints import client, parameters
from trueup.settings.annotator_kinds import EndpointAnnotator

REMINDER = "Answer with one label alone, {} or {}, and nothing else."
SENTENCE = re.compile(r"(?<=[.!?])\s")
LONGEST_REASON = 160
THINKING_ROOM = 4096  # longest answer of a judge that turns out to think first, unless it is set
LONGER = "; one that thinks first may need a larger annotator.max_answer_tokens"
KEPT = "; verdicts up to here are kept and not paid for again"

Read = Verdict | Unreadable | None
"""What an answer says; None where the endpoint did not give what it would be read from."""


@dataclass(frozen=True, slots=True)
class Reading:
    name: str
    max_tokens: int
    fields: Mapping[str, Any]
    read: Callable[[Answer, tuple[str, str]], Read]


CUT_OFF = Unreadable(NoAnswer.CUT_OFF.value + LONGER)
LOG_PROBS = Reading(
    "log-probs", 1, {"logprobs": True, "top_logprobs": 20},
    lambda answer, labels: None if answer.top is None else by_log_probs(answer.top, labels),
)  # fmt: skip
WORDS = Reading("answer", 32, {}, lambda answer, labels: CUT_OFF if answer.cut_off else by_words(answer.text, labels))
READINGS = {"auto": (LOG_PROBS, WORDS), "log-probs": (LOG_PROBS,), "answer": (WORDS,)}
"""`annotator.read` -> readings, the first of which is tried first."""


class EndpointJudge:
    """Asks each question in a request of its own, several at a time.
    An answer of which the verdict could be read is in the cache as soon as it is there; what could not be read is not
    kept, so that another run asks for it again."""

    def __init__(self, asker: Asker, choice: EndpointAnnotator) -> None:
        self.asker, self.name = asker, choice.model
        self._choice = choice
        self._readings = READINGS[choice.read]
        self._known = self._readings == (WORDS,)
        self._gave_log_probs = False
        self._told = False

    def ask(self, questions: Sequence[Question]) -> Judgements:
        once = list(dict.fromkeys(questions))
        found: dict[Question, Verdict | Unreadable] = {}
        found.update({question: known for question in once if (known := self._recalled(question))})
        cached, repeated, used = len(found), 0, budget.Usage()
        open_ = [question for question in once if question not in found]
        for attempt in range(self._choice.asks):
            repeated += len(open_) if attempt else 0
            outcomes, took = self._attempt(open_, attempt)
            used += took
            found.update({question: read for question, read in outcomes.items() if read})
            open_ = [one for one, read in outcomes.items() if isinstance(read, Unreadable) and not read.final]
        totals = self.asker.totals(used, {"cached": cached, "asked_again": repeated})
        return Judgements(tuple(found[question] for question in questions), totals)

    def _recalled(self, question: Question) -> Verdict | None:
        """The verdict of a request that was made before, by this run or another."""
        for attempt in range(self._choice.asks):
            for reading in READINGS[self._choice.read]:
                kept = self.asker.recall(self._request(question, reading, attempt), question.labels)
                verdict = reading.read(Answer(**kept), question.labels) if kept else None
                if isinstance(verdict, Verdict):
                    return verdict
        return None

    def _attempt(self, questions: list[Question], attempt: int) -> tuple[dict[Question, Read], budget.Usage]:
        """Ask each question once; of an endpoint not yet known, one alone finds out what it gives."""
        outcomes: dict[Question, Read] = {}
        used = budget.Usage()
        alone = 0 if self._known else 1
        for part in (questions[:alone], questions[alone:]):
            open_ = part
            for reading in self._readings if part else ():
                made, took = self._exchange(open_, reading, attempt)
                outcomes.update(zip(open_, made, strict=True))
                used += took
                open_ = [question for question in open_ if outcomes[question] is None]
                if not open_:
                    break
                self._fall_back(reading)
            self._known = self._known or bool(part)
        return outcomes, used

    def _fall_back(self, reading: Reading) -> None:
        """Say, or refuse, that some answers do not hold what they are to be read from."""
        others = READINGS[self._choice.read][1:]
        if not others:
            raise errors.AnnotatorError(
                f"annotator {self.name}: {self.asker.place} gives no log-probabilities, and annotator.read is "
                f"{reading.name}; give annotator.read answer, or auto"
            )
        if not self._told:
            words.logger.warning(
                f"annotator {self.name}: {self.asker.place} gives no log-probabilities; verdicts are read from its "
                "answers, each of them wholly for one response"
            )
            self._told = True
        if not self._gave_log_probs:
            self._readings = others

    def _exchange(
        self, questions: Sequence[Question], reading: Reading, attempt: int
    ) -> tuple[list[Read], budget.Usage]:
        """Ask questions by one reading; each verdict is kept as soon as it is there."""
        requests = [self._request(question, reading, attempt) for question in questions]

        def read(number: int, reply: Reply) -> Read:
            labels = questions[number].labels
            if isinstance(reply, client.Refused):
                if reading is LOG_PROBS and "logprob" in reply.reason.lower():
                    return None
                first, *_ = SENTENCE.split(reply.reason)  # what follows often counts this question's tokens
                reason = f"the endpoint refused the question: {first[:LONGEST_REASON]}"
                return Unreadable(reason, final=True)
            if isinstance(reply, NoAnswer):
                longer = LONGER if reply in (NoAnswer.CUT_OFF, NoAnswer.THINKING) else ""
                declined = reply is NoAnswer.DECLINED
                return Unreadable("the judge refused to answer" if declined else reply.value + longer)
            self._gave_log_probs = self._gave_log_probs or reply.top is not None
            verdict = reading.read(reply, labels)
            if isinstance(verdict, Verdict):
                self.asker.keep(requests[number], _kept(reply, self.asker.endpoint.key.redact), labels)
            return verdict

        room = 0 if self._choice.max_answer_tokens else THINKING_ROOM
        return self.asker.ask(requests, read, remedy=KEPT, room=room)

    def _request(self, question: Question, reading: Reading, attempt: int) -> dict[str, Any]:
        """What is said; after an answer that could not be read, with what an answer is to look like."""
        text = f"{question.text}\n\n{REMINDER.format(*question.labels)}" if attempt else question.text
        plain = {"model": self.name, "messages": [{"role": "user", "content": text}], "temperature": 0}
        form = {"response_format": parameters.schema_of(question.labels)} if reading is WORDS else {}
        longest = self._choice.max_answer_tokens or reading.max_tokens
        return {**plain, "max_tokens": longest, **form, **reading.fields}


def _kept(answer: Answer, redact: Callable[[str], str]) -> dict[str, Any]:
    """The fields of an answer as they are kept on disk, without what is secret, should the endpoint repeat it."""
    top = None if answer.top is None else [[redact(token), value] for token, value in answer.top]
    return {"text": redact(answer.text), "top": top, "cut_off": answer.cut_off}


def load_endpoint_annotator(
    choice: EndpointAnnotator, *, usage_file: Path | None = None, new: bool = False
) -> comparing.ComparingAnnotator:
    """The annotator that a choice describes; only `new` ones look for their server at once.
    What it takes is kept in `usage_file` over all sittings of a run; None counts those of this process alone."""
    template = load_question(choice.template)
    asker = make_asker(choice, cached="judgements", usage_file=usage_file)
    if new:
        asker.refuse_dead()
    judge = EndpointJudge(asker, choice)
    return comparing.ComparingAnnotator(
        judge, template, instruction=choice.instruction, max_unreadable=choice.max_unreadable
    )
