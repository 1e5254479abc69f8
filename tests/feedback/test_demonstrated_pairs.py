"""The view of pairs with a demonstration beside them."""

import re

import pytest

from trueup.errors import InputError
from trueup.feedback import views
from trueup.feedback.groups import DemonstratedPairRelation, Discarded, Group, PairRelation
from trueup.feedback.records import Comparison, Example, Origin, Prompt, Response

ORIGIN = Origin("a.jsonl", 3)
A, B, C = Response("A"), Response("B"), Response("C")
MARKED = Response("M", demonstration=True)


@pytest.mark.parametrize(
    ("responses", "comparisons", "expected"),
    [
        ((A, B, MARKED), (Comparison(1, 0, 0.8),), ("ABM", ((1, 0, 0.8),), 2)),
        ((MARKED, A, B), (Comparison(1, 2),), ("ABM", ((0, 1, 1.0),), 2)),
        ((MARKED, A, B), (Comparison(0, 2),), ("MB", ((0, 1, 1.0),), 0)),
        ((A, Response("A", demonstration=True), B), (Comparison(2, 0),), ("AB", ((1, 0, 1.0),), 0)),
        ((A, B, MARKED, Response("N", demonstration=True)), (Comparison(0, 1),), ("ABM", ((0, 1, 1.0),), 2)),
        ((A, B, C), (Comparison(0, 1),), "no demonstration beside the pairs"),
        ((A, MARKED), (), "nothing compares two responses"),
        ((Response("A", score=1.0), Response("B", score=0.0), MARKED), (), ("ABM", ((0, 1, 1.0),), 2)),
    ],
)
def test_by_value(
    responses: tuple[Response, ...], comparisons: tuple[Comparison, ...], expected: tuple[object, ...] | str
) -> None:
    made = views.pairs_with_demonstration(Example(Prompt("p", origin=ORIGIN), responses, comparisons))
    if isinstance(expected, str):
        assert made == Discarded(expected, ORIGIN)
        return
    assert isinstance(made, Group)
    relation = made.relation
    assert ("".join(map(str, made.responses)), relation.pairs.pairs, relation.demonstration) == expected
    assert made.prompt == Prompt("p", origin=ORIGIN)


def test_a_group_by_value() -> None:
    example = Example(Prompt("p", origin=ORIGIN), (A, B, MARKED), (Comparison(0, 1),))
    relation = DemonstratedPairRelation(PairRelation(((0, 1, 1.0),)), 2)
    assert views.pairs_with_demonstration(example) == Group(
        Prompt("p", origin=ORIGIN), ("A", "B", "M"), relation
    )


def test_what_it_makes_and_leaves_out_is_counted() -> None:
    whole = Example(
        Prompt("p", origin=ORIGIN), (A, B, C, MARKED), (Comparison(0, 1), Comparison(0, 2), Comparison(2, 0))
    )
    without = Example(Prompt("p", origin=ORIGIN), (A, B), (Comparison(0, 1),))
    made = views.apply(views.pairs_with_demonstration, [whole, without])
    assert made.lines() == [
        "pairs with demonstration: 2 examples gave 1 group, 3 responses, 1 pair, 1 demonstration; "
        "discarded: 1 for no demonstration beside the pairs (a.jsonl:3)",
        "pairs with demonstration: 1 response and 2 comparisons of these examples not used",
    ]
    message = (
        "no pairs with demonstration can be made of that (discarded: 1 for no demonstration beside the pairs)"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        views.apply(views.pairs_with_demonstration, [without])
