"""Statistical rejection sampling keeps responses as the published algorithm does."""

import math
from collections import Counter

import pytest

from trueup.feedback import views
from trueup.feedback.records import Comparison, Discarded, Example, Prompt, Response
from trueup.feedback.transforms import RejectionSampled


def example(number: int, scores: tuple[float, ...]) -> Example:
    responses = tuple(Response(f"{number}:{at}", score=score) for at, score in enumerate(scores))
    return Example(Prompt(f"prompt {number}"), responses)


def kept(beta: float, keep: int, given: Example) -> list[float]:
    (made,) = RejectionSampled(beta, keep).fit([given]).rewrite([given])
    return [one.score or 0.0 for one in made.responses]


def test_near_zero_the_best_are_kept_in_order() -> None:
    assert kept(1e-6, 3, example(0, (1.0, 5.0, 3.0, 4.0))) == [5.0, 4.0, 3.0]


def test_a_response_is_taken_with_its_probability() -> None:
    """Of scores 0 and 1 at beta 1, one is kept: in a pass the 0, which is looked at first, with e^-1, else the 1."""
    found = Counter(kept(1.0, 1, example(number, (0.0, 1.0)))[0] for number in range(4000))
    share = math.exp(-1)
    assert found[0.0] / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))


def test_the_draws_of_a_prompt_are_its_own() -> None:
    """Whatever stands beside it, and however often it is asked."""
    given = [example(number, (0.1, 0.2, 0.3, 0.4, 0.5)) for number in range(20)]
    together = RejectionSampled(0.5, 2).fit(given).rewrite(given)
    alone = [RejectionSampled(0.5, 2).fit([one]).rewrite([one])[0] for one in given]
    assert together == alone
    assert len({tuple(one.score for one in made.responses) for made in together}) > 3


def test_few_responses_are_left_as_they_are_and_comparisons_of_others_go() -> None:
    few = example(0, (1.0, 2.0))
    compared = Example(few.prompt, example(0, (1.0, 2.0, 3.0)).responses, (Comparison(0, 1),))
    fitted = RejectionSampled(0.5, 2).fit([few, compared])
    made = fitted.rewrite([few, compared])
    assert made[0] == few and len(made[1].responses) == 2 and not made[1].comparisons
    assert fitted.found == ("rejection sampling kept 4 of 5 responses, 2 a prompt",)


def test_without_scores_nothing_is_left_to_learn_from() -> None:
    alone = Example(Prompt("a"), (Response("b"), Response("c")), (Comparison(0, 1),))
    (made,) = RejectionSampled(0.5, 2).fit([alone]).rewrite([alone])
    assert isinstance(views.pairs(made), Discarded)
