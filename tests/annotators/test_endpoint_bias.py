"""Judges that go by the place of a response, or by nothing: both orders cancel the place, and what is told shows it."""

import hashlib
import math

import pytest
from support.faulty_server import Answer, Asked, FaultyServer
from support.judge_answers import first_with, said, shown

from trueup.annotators.annotator import Annotated
from trueup.annotators.endpoint import load_endpoint_annotator
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example, Prompt, Response
from trueup.settings.annotator_settings import EndpointAnnotator

PAIRS = 60
EXAMPLES = [
    Example(Prompt(f"Prompt {number}"), (Response(f"One {number}"), Response(f"Another {number}")))
    for number in range(PAIRS)
]


def judged(server: FaultyServer, read: str = "auto") -> Annotated:
    choice = EndpointAnnotator(base_url=server.url, model="J", read=read, cache=False)  # type: ignore[arg-type]
    return load_endpoint_annotator(choice).annotate(EXAMPLES)


def drawn(asked: Asked, seed: str = "") -> float:
    """A number in [0, 1) that depends on the responses and their order."""
    digest = hashlib.sha256("|".join((seed, *shown(asked))).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def share_of_first_response(annotated: Annotated) -> tuple[float, float]:
    """Mean probability that the first response of an example is better, and its standard error."""
    values = []
    for example in annotated.examples:
        if isinstance(example, Discarded):
            values.append(0.5)
        else:
            (comparison,) = example.comparisons
            values.append(comparison.probability if comparison.better == 0 else 1 - comparison.probability)
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


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


def test_a_judge_that_names_the_first_in_seven_of_ten() -> None:
    with FaultyServer(lambda asked: said("1" if drawn(asked) < 0.7 else "2")) as server:
        annotated = judged(server, "answer")
    facts = annotated.facts
    assert facts["first"] / facts["verdicts"] == pytest.approx(0.7, abs=3 * math.sqrt(0.21 / (2 * PAIRS)))
    mean, error = share_of_first_response(annotated)
    assert abs(mean - 0.5) < 3 * error
    # An answer is for the same place in both orders with probability 0.7^2 + 0.3^2, and then it is a tie.
    assert facts["ties"] / PAIRS == pytest.approx(0.58, abs=3 * math.sqrt(0.58 * 0.42 / PAIRS))
    assert facts["ties"] == facts["flipped"]


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_a_judge_that_goes_by_nothing(seed: str) -> None:
    with FaultyServer(lambda asked: first_with(0.001 + 0.998 * drawn(asked, seed))) as server:
        annotated = judged(server)
    mean, error = share_of_first_response(annotated)
    assert 0 < error < 0.05
    assert abs(mean - 0.5) < 3 * error


def test_a_judge_that_goes_by_the_response_is_heard_through_its_liking_for_a_place() -> None:
    """0.3 for the place on top of what it finds of the responses."""

    def answer(asked: Asked) -> Answer:
        return first_with(0.65 if shown(asked)[0].startswith("Another") else 0.95)

    with FaultyServer(answer) as server:
        annotated = judged(server)
    mean, error = share_of_first_response(annotated)
    assert mean == pytest.approx(0.65)
    assert error < 1e-9
    assert annotated.facts["first"] / annotated.facts["verdicts"] == pytest.approx(0.8)
