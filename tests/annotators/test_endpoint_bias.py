"""Judges that go by the place of a response, or by nothing: both orders cancel the place, and what is told shows it."""

import pytest
from support.faulty_server import Answer, Asked, FaultyServer
from support.judge_answers import first_with, said, shown

from trueup.annotators.annotator import Annotated
from trueup.annotators.endpoint import load_endpoint_annotator
from trueup.feedback.records import Discarded, Example, Prompt, Response
from trueup.settings.annotator_settings import EndpointAnnotator

PAIRS = 20
EXAMPLES = [
    Example(Prompt(f"Prompt {number}"), (Response(f"One {number}"), Response(f"Another {number}")))
    for number in range(PAIRS)
]


def judged(server: FaultyServer, read: str = "auto") -> Annotated:
    choice = EndpointAnnotator(base_url=server.url, model="J", read=read, cache=False)  # type: ignore[arg-type]
    return load_endpoint_annotator(choice).annotate(EXAMPLES)


@pytest.mark.parametrize(
    ("reply", "share"), [(said("1"), 1.0), (said("2"), 0.0), (first_with(0.7), 0.7), (first_with(0.05), 0.05)]
)
def test_a_judge_that_goes_by_the_place_prefers_nothing(reply: Answer, share: float) -> None:
    with FaultyServer([reply]) as server:
        annotated = judged(server)
    assert all(isinstance(example, Discarded) for example in annotated.examples)
    assert annotated.facts["ties"] == PAIRS
    assert annotated.facts["first"] / annotated.facts["verdicts"] == pytest.approx(share)
    assert annotated.facts["flipped"] == PAIRS


def test_a_judge_that_goes_by_the_response_is_heard_through_its_liking_for_a_place() -> None:
    """0.3 for the place on top of what it finds of the responses."""

    def answer(asked: Asked) -> Answer:
        return first_with(0.65 if shown(asked)[0].startswith("Another") else 0.95)

    with FaultyServer(answer) as server:
        annotated = judged(server)
    for example in annotated.examples:
        assert isinstance(example, Example)
        (comparison,) = example.comparisons
        assert (comparison.better, comparison.probability) == (0, pytest.approx(0.65))
    assert annotated.facts["first"] / annotated.facts["verdicts"] == pytest.approx(0.8)
