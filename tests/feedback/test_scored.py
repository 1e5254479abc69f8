"""The view of policy gradients: every response with its score, as it was drawn."""

from trueup.feedback.groups import Discarded, RankRelation
from trueup.feedback.records import Comparison, Example, Origin, Prompt, Response
from trueup.feedback.views import ALONE, NOT_ALL_SCORED, scored

PLACE = Origin("examples.jsonl", 4)


def example(*scores: float | None, **more: object) -> Example:
    responses = tuple(Response("yes", score=score, tokens=(5, 2)) for score in scores)
    return Example(Prompt("say:", origin=PLACE), responses, **more)  # type: ignore[arg-type]


def test_all_responses_stay_with_their_scores_and_tokens() -> None:
    """Identical responses with equal scores too: they are draws."""
    found = scored(example(1.0, 1.0, -2.5))
    assert not isinstance(found, Discarded)
    assert found.relation == RankRelation((1.0, 1.0, -2.5))
    assert found.responses == ("yes", "yes", "yes")
    assert found.tokens == ((5, 2),) * 3
    assert found.origin == PLACE


def test_one_response_does_where_none_is_compared() -> None:
    found = scored(example(0.0))
    assert not isinstance(found, Discarded) and found.relation.scores == (0.0,)
    assert scored(example(0.0), least=2) == Discarded(ALONE, PLACE)
    assert not isinstance(scored(example(0.0, 0.0), least=2), Discarded)


def test_a_response_without_a_score_discards_the_example() -> None:
    assert scored(example(1.0, None)) == Discarded(NOT_ALL_SCORED, PLACE)
    compared = example(None, None, comparisons=(Comparison(0, 1),))
    assert scored(compared) == Discarded(NOT_ALL_SCORED, PLACE)
    assert scored(compared, least=2) == Discarded(NOT_ALL_SCORED, PLACE)
