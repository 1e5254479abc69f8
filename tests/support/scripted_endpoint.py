"""An endpoint that answers by a function, and a judge that asks it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from trueup.annotators.asker import FORM_FIELDS, Asker
from trueup.annotators.budget import Budget
from trueup.annotators.endpoint import EndpointJudge
from trueup.annotators.judge import Question
from trueup.endpoints.client import Refused
from trueup.record_cache import RecordCache
from trueup.settings.annotator_kinds import EndpointAnnotator

QUESTIONS = tuple(Question(f"Question {number}") for number in range(4))
Reply = dict[str, Any] | Refused


class Answering:
    """Stands in for `Endpoint.each`: answers by a function, in turns that are not those of the questions."""

    key = SimpleNamespace(redact=lambda text: text.replace("secret", "***"))

    def __init__(self, answer: Callable[[Mapping[str, Any]], Reply]) -> None:
        self.answer = answer
        self.asked: list[Mapping[str, Any]] = []
        self.batches: list[int] = []
        self.base_urls = ("http://localhost:1/v1",)

    def each(self, path: str, bodies: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Reply]]:
        assert path == "/chat/completions"
        self.batches.append(len(bodies))
        for number in reversed(range(len(bodies))):
            self.asked.append(bodies[number])
            yield number, self.answer(bodies[number])

    @property
    def texts(self) -> list[str]:
        return [text_of(body) for body in self.asked]


def judging(
    endpoint: Answering, cache: RecordCache | None = None, budget: Budget | None = None, **choice: Any
) -> EndpointJudge:
    settings = EndpointAnnotator(base_url="http://localhost:1/v1", model=choice.pop("model", "J"), **choice)
    asker = Asker(endpoint, settings.model, budget or Budget(), cache, form=FORM_FIELDS[settings.form])  # type: ignore[arg-type]
    return EndpointJudge(asker, settings)


def text_of(body: Mapping[str, Any]) -> str:
    return str(body["messages"][0]["content"])
