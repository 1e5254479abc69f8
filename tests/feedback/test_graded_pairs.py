"""Pairs with how much better the chosen response was found."""

from collections.abc import Sequence

import pytest

from trueup.feedback.groups import Discarded, Group
from trueup.feedback.records import Comparison, Example, Prompt, Response
from trueup.feedback.viewed import apply
from trueup.feedback.views import graded_pairs, pairs


def example(scores: Sequence[float | None], *compared: tuple[int, int]) -> Example:
    responses = tuple(Response(f"r{number}", score=score) for number, score in enumerate(scores))
    return Example(Prompt("p"), responses, tuple(Comparison(*each, 0.9) for each in compared))


def gaps(given: Example) -> dict[tuple[str, str], float]:
    made = graded_pairs(given)
    assert isinstance(made, Group)
    named = [
        (made.responses[chosen], made.responses[rejected])
        for chosen, rejected, _ in made.relation.pairs.pairs
    ]
    return {(str(one), str(other)): gap for (one, other), gap in zip(named, made.relation.gaps, strict=True)}


def test_of_scores_every_difference() -> None:
    found = gaps(example([0.5, 3.0, None, -1.0]))
    assert found == {("r1", "r0"): 2.5, ("r1", "r3"): 4.0, ("r0", "r3"): 1.5}


def test_comparisons_take_it_from_scores_beside_them() -> None:
    """None where a response has none, or where the scores say the opposite."""
    assert gaps(example([None, 3.0, 1.0, 2.0], (1, 2), (2, 3), (0, 1))) == {
        ("r1", "r2"): 2.0, ("r2", "r3"): 0.0, ("r0", "r1"): 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        example([0.5, 3.0, None, -1.0]),
        example([None, None, None], (2, 0), (0, 1)),
        example([1.0, 2.0, None, 4.0], (1, 3), (0, 2)),
        example([None, None], (0, 1), (1, 0)),
        example([1.0, 1.0]),
        example([None]),
    ],
)
def test_otherwise_they_are_the_pairs_of_every_pairwise_method(given: Example) -> None:
    made, expected = graded_pairs(given), pairs(given)
    if isinstance(expected, Discarded):
        assert made == expected
    else:
        assert isinstance(made, Group)
        assert made.relation.pairs == expected.relation
        assert (made.prompt, made.responses, made.tokens) == (
            expected.prompt,
            expected.responses,
            expected.tokens,
        )


def test_they_are_counted_as_pairs() -> None:
    viewed = apply(graded_pairs, [example([0.5, 3.0, None, -1.0]), example([None, None], (0, 1))])
    assert viewed.lines()[0] == "graded pairs: 2 examples gave 2 groups, 5 responses, 4 pairs"
