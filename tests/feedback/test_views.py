"""Every view by value, and the laws of views."""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.example_strategies import examples
from support.refusals import refused

from trueup.feedback import records, views
from trueup.feedback.records import Comparison, Discarded, Example, Group, Message, Origin, Prompt, Response, View

ALL = (views.pairs, views.rankings, views.points, views.points_with_demonstrations, views.demonstrations)
ORIGIN = Origin("a.jsonl", 3)


def example(*responses: Response, comparisons: Iterable[Comparison] = ()) -> Example:
    return Example(Prompt("p", origin=ORIGIN), responses, tuple(comparisons))


def compared(*comparisons: str, among: str = "ABC", **said: Any) -> Example:
    """An example whose comparisons are written `A>B` or, with a probability, `A>B 0.8`.

    Args:
        said: of each response by its letter, what is said of it beside the comparisons.
    """
    found = []
    for one in comparisons:
        pair, _, sure = one.partition(" ")
        found.append(Comparison(among.index(pair[0]), among.index(pair[2]), float(sure or 1)))
    return example(*(Response(letter, **said.get(letter, {})) for letter in among), comparisons=found)


def scored(*scores: float | None) -> Example:
    return example(*(Response(letter, score=one) for letter, one in zip("ABCD", scores, strict=False)))


def labelled(*labels: float | None) -> Example:
    return example(*(Response(letter, label=one) for letter, one in zip("ABCD", labels, strict=False)))


def shown(made: Group[Any] | Discarded) -> object:
    """What a view made, in short: responses as letters, then the relation; or the reason."""
    if isinstance(made, Discarded):
        return made.reason
    letters = "".join(str(one) for one in made.responses)
    relation = made.relation
    if isinstance(relation, records.PairRelation):
        return letters, [(letters[a] + letters[b], sure) for a, b, sure in relation.pairs]
    if isinstance(relation, records.GradedPairRelation):
        graded = zip(relation.pairs.pairs, relation.gaps, strict=True)
        return letters, [(letters[a] + letters[b], gap) for (a, b, _), gap in graded]
    if isinstance(relation, records.DemonstratedPairRelation):
        pairs = [(letters[a] + letters[b], sure) for a, b, sure in relation.pairs.pairs]
        return letters, pairs, letters[relation.demonstration]
    if isinstance(relation, records.RankRelation):
        return letters, list(relation.scores)
    if isinstance(relation, records.PointRelation):
        return letters, list(relation.labels), list(relation.demonstrations)
    return letters


SHOWN: dict[str, Any] = {"demonstration": True}
DEMONSTRATION = example(Response("A", **SHOWN))
BOTH = example(Response("A", **SHOWN), Response("B", label=0.0), Response("C", score=1.0))
TWINS = example(Response("A"), Response("A"), comparisons=[Comparison(0, 1)])
SCORED_TWINS = example(Response("A", score=1.0), Response("A", score=0.0))
MIXED = compared("A>B", among="AB", A={"score": 1.0}, B={"score": 2.0})

CASES: dict[View[Any], list[tuple[Example, object]]] = {
    views.pairs: [
        (compared("A>B"), ("AB", [("AB", 1.0)])),
        (compared("C>A 0.8"), ("AC", [("CA", 0.8)])),
        (compared("A>B", "B>C", "A>B 0.7"), ("ABC", [("AB", 1.0), ("BC", 1.0), ("AB", 0.7)])),
        (compared("A>B", "B>A", "A>C"), ("AC", [("AC", 1.0)])),
        (compared("A>B", "B>A"), "comparisons contradict each other"),
        (TWINS, "identical pair"),
        (MIXED, ("AB", [("AB", 1.0)])),
        (scored(1, 3, 1), ("ABC", [("BA", 1.0), ("BC", 1.0)])),
        (scored(1, None, 0), ("AC", [("AC", 1.0)])),
        (scored(1, 1), "all scores equal"),
        (labelled(1, 0.4, None), ("AB", [("AB", 1.0)])),
        (labelled(0.5, 0.5), "all labels equal"),
        (scored(1), "nothing compares two responses"),
        (compared(), "nothing compares two responses"),
        (DEMONSTRATION, "nothing compares two responses"),
        (SCORED_TWINS, "identical pair"),
    ],
    views.rankings: [
        (scored(1, 3, 1), ("ABC", [1, 3, 1])),
        (scored(2, 2), "all scores equal"),
        (MIXED, ("AB", [1, 2])),
        (compared("A>B"), ("AB", [1, 0])),
        (compared("B>A 0.6"), ("AB", [0, 1])),
        (compared("A>B", "B>C"), ("ABC", [2, 1, 0])),
        (compared("A>C", "B>C"), ("ABC", [1, 1, 0])),
        (compared("A>B", "A>C"), ("ABC", [2, 0, 0])),
        (compared("A>B", "B>C", "C>D", among="ABCD"), ("ABCD", [3, 2, 1, 0])),
        (compared("A>B", "C>D", among="ABCD"), "comparisons leave the order open"),
        (compared("A>B", "A>C", "B>D", among="ABCD"), "comparisons leave the order open"),
        (compared("A>B", "B>A"), "comparisons contradict each other"),
        (compared("A>B", "B>C", "C>A"), "comparisons contradict each other"),
        (labelled(1, 0, 0.5), ("ABC", [1, 0, 0.5])),
        (labelled(1, None, 0.5), ("AC", [1, 0.5])),
        (labelled(1, 1), "all labels equal"),
        (scored(1, None, 0.5), ("AC", [1, 0.5])),
        (DEMONSTRATION, "a single response cannot be ranked"),
        (scored(1), "a single response cannot be ranked"),
        (compared(), "nothing ranks two responses"),
        (TWINS, "identical pair"),
        (SCORED_TWINS, "all responses identical"),
    ],
    views.points: [
        (labelled(1, None, 0.3), ("AC", [1, 0.3], [False, False])),
        (compared("A>B"), ("AB", [1, 0], [False, False])),
        (compared("A>B 0.75"), ("AB", [0.75, 0.25], [False, False])),
        (compared("A>B", "A>C 0.75"), ("ABC", [0.875, 0, 0.25], [False] * 3)),
        (compared("A>B", "B>C"), ("AC", [1, 0], [False, False])),
        (compared("A>B", "B>A"), "every response is both chosen and rejected"),
        (TWINS, "identical pair"),
        (scored(1, 0), views.SCORES_ALONE),
        (DEMONSTRATION, ("A", [1], [False])),
        (BOTH, ("AB", [1, 0], [False, False])),
        (compared(), "nothing labels a response"),
    ],
    views.demonstrations: [
        (DEMONSTRATION, "A"),
        (BOTH, "A"),
        (compared("A>B"), "A"),
        (compared("A>B", "C>B"), "AC"),
        (compared("A>B", "B>C"), "A"),
        (compared("A>B", "B>A"), "every response lost a comparison"),
        (TWINS, "identical pair"),
        (labelled(1, 0, 1), "AC"),
        (labelled(0.9, 0), "no response labelled 1"),
        (scored(1, 3, 3), "B"),
        (compared(), "nothing says which response to imitate"),
    ],
    views.points_with_demonstrations: [
        (BOTH, ("AB", [1, 0], [True, False])),
        (labelled(1), ("A", [1], [False])),
        (example(Response("A", label=0.9, **SHOWN)), ("A", [0.9], [True])),
    ],
    views.pairs_with_demonstration: [
        (compared("B>A 0.8", among="ABM", M=SHOWN), ("ABM", [("BA", 0.8)], "M")),
        (compared("A>B", among="MAB", M=SHOWN), ("ABM", [("AB", 1.0)], "M")),
        (compared("M>B", among="MAB", M=SHOWN), ("MB", [("MB", 1.0)], "M")),
        (compared("A>B", among="ABMN", M=SHOWN, N=SHOWN), ("ABM", [("AB", 1.0)], "M")),
        (compared(among="ABM", A={"score": 1.0}, B={"score": 0.0}, M=SHOWN), ("ABM", [("AB", 1.0)], "M")),
        (
            example(Response("A"), Response("A", **SHOWN), Response("B"), comparisons=[Comparison(2, 0)]),
            ("AB", [("BA", 1.0)], "A"),
        ),
        (compared("A>B"), "no demonstration beside the pairs"),
        (compared(among="AM", M=SHOWN), "nothing compares two responses"),
    ],
    # The gap of a pair is 0 where a response has no score, or where the scores say the opposite.
    views.graded_pairs: [
        (scored(0.5, 3.0, None, -1.0), ("ABD", [("AD", 1.5), ("BA", 2.5), ("BD", 4.0)])),
        (
            compared("B>C", "C>D", "A>B", among="ABCD", B={"score": 3.0}, C={"score": 1.0}, D={"score": 2.0}),
            ("ABCD", [("BC", 2.0), ("CD", 0.0), ("AB", 0.0)]),
        ),
        (compared("A>B", "B>A"), "comparisons contradict each other"),
        (scored(1.0, 1.0), "all scores equal"),
        (scored(None), "nothing compares two responses"),
    ],
    # All responses stay, identical ones with equal scores too: they are draws of a policy.
    views.scored: [
        (example(*(Response("A", score=score) for score in (1.0, 1.0, -2.5))), ("AAA", [1, 1, -2.5])),
        (scored(0.0), ("A", [0])),
        (scored(1.0, None), views.NOT_ALL_SCORED),
        (compared("A>B"), views.NOT_ALL_SCORED),
    ],
    partial(views.scored, least=2): [
        (scored(0.0), views.ALONE), (scored(0.0, 0.0), ("AB", [0, 0])), (compared("A>B"), views.NOT_ALL_SCORED)
    ],
}  # fmt: skip


@pytest.mark.parametrize("view", CASES, ids=lambda view: getattr(view, "__name__", None))
def test_by_value(view: View[Any]) -> None:
    for each, expected in CASES[view]:
        made = view(each)
        assert shown(made) == expected, each
        assert made.origin == ORIGIN


def test_a_group_keeps_prompt_and_origin_and_the_tokens_of_its_responses() -> None:
    prompt = Prompt((Message("user", "p"),), origin=ORIGIN)
    responses = (Response("A", score=0.0, tokens=(5, 2)), Response("B"), Response("C", score=1.0))
    given = Example(prompt, responses, (Comparison(2, 0),))
    assert views.pairs(given) == Group(prompt, ("A", "C"), records.PairRelation(((1, 0, 1.0),)), ((5, 2), None))
    graded = views.graded_pairs(given)
    assert isinstance(graded, Group) and (graded.prompt, graded.tokens) == (prompt, ((5, 2), None))


def relations(made: Group[Any] | Discarded) -> object:
    if isinstance(made, Discarded):
        return made.reason
    relation, said = made.relation, made.responses
    if isinstance(relation, records.PairRelation):
        return sorted((str(said[a]), str(said[b]), sure) for a, b, sure in relation.pairs)
    if isinstance(relation, records.RankRelation):
        return sorted(zip(map(str, said), relation.scores, strict=True))
    if isinstance(relation, records.PointRelation):
        return sorted(zip(map(str, said), relation.labels, relation.demonstrations, strict=True))
    return sorted(map(str, said))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(example=examples(), data=st.data())
def test_laws(example: Example, data: st.DataObject) -> None:
    """A view only discards, lists what stands in its relation, and does not heed the order of responses."""
    order = data.draw(st.permutations(range(len(example.responses))))
    permuted = Example(
        example.prompt,
        tuple(example.responses[position] for position in order),
        tuple(
            Comparison(order.index(one.better), order.index(one.worse), one.probability) for one in example.comparisons
        ),
    )
    best = [one.score for one in example.responses if one.score is not None]
    for view in ALL:
        made = view(example)
        by_score = view is views.demonstrations and best.count(max(best, default=0.0)) > 1
        if not by_score:
            assert relations(view(permuted)) == relations(made)
        if isinstance(made, Discarded):
            continue
        left = [response.content for response in example.responses]
        for content in made.responses:
            left.remove(content)
        assert_lists_all(made)


def assert_lists_all(made: Group[Any]) -> None:
    """The relation of a group speaks of all its responses and of no others."""
    relation = made.relation
    if isinstance(relation, records.PairRelation):
        assert {position for one in relation.pairs for position in one[:2]} == set(range(len(made.responses)))
        assert all(made.responses[better] != made.responses[worse] for better, worse, _ in relation.pairs)
    if isinstance(relation, records.RankRelation):
        assert len(relation.scores) == len(made.responses) >= 2 and len(set(relation.scores)) > 1
    if isinstance(relation, records.PointRelation):
        assert len(relation.labels) == len(relation.demonstrations) == len(made.responses) >= 1
        assert all(0 <= label <= 1 for label in relation.labels)


def with_origin(examples: Iterable[Example]) -> list[Example]:
    return [
        Example(replace(one.prompt, origin=Origin("a.jsonl", row)), one.responses, one.comparisons)
        for row, one in enumerate(examples, start=1)
    ]


def test_apply_counts() -> None:
    examples = with_origin([compared("A>B"), TWINS, compared("A>B", "B>A", "A>C"), *[TWINS] * 3])
    made = views.apply(views.pairs, examples)
    assert (made.view, made.examples, len(made.groups), made.responses) == ("pairs", 6, 2, 4)
    assert (made.units, made.responses_left_out, made.comparisons_left_out) == ({"pairs": 2}, 2, 2)
    assert [str(one) for one in made.discarded["identical pair"]] == [f"a.jsonl:{row}" for row in (2, 4, 5, 6)]
    assert made.lines() == [
        "pairs: 6 examples gave 2 groups, 4 responses, 2 pairs; discarded: 4 for identical pair "
        "(a.jsonl:2, a.jsonl:4, a.jsonl:5, ...)",
        "pairs: 2 responses and 2 comparisons of these examples not used",
    ]


@pytest.mark.parametrize(
    ("view", "units"),
    [
        (views.rankings, {"rankings": 1}),
        (views.points, {"points": 2}),
        (views.points_with_demonstrations, {"points": 1, "demonstrations": 1}),
        (views.demonstrations, {"demonstrations": 1}),
    ],
)
def test_apply_units(view: View[Any], units: dict[str, int]) -> None:
    example = Example(Prompt("p"), (Response("A", 1.0, 1.0, demonstration=True), Response("B", 0.0, 0.0)))
    assert views.apply(view, [example]).units == units


def test_apply_to_nothing() -> None:
    with refused("there are no examples to make pairs of"):
        views.apply(views.pairs, [])
    message = (
        "the 2 examples of a.jsonl hold 2 demonstrations, and no pairs can be made of that (discarded: 2 for "
        "nothing compares two responses); give other feedback, or choose a method that uses this kind"
    )
    with refused(re.escape(message)):
        views.apply(views.pairs, with_origin([DEMONSTRATION] * 2))


def test_what_a_view_of_pairs_makes_and_leaves_out_is_counted() -> None:
    graded = views.apply(views.graded_pairs, [scored(0.5, 3.0, None, -1.0), compared("A>B", among="AB")])
    assert graded.lines()[0] == "graded pairs: 2 examples gave 2 groups, 5 responses, 4 pairs"
    full = compared("A>B", "A>C", "C>A", among="ABCM", M=SHOWN)
    without = compared("A>B", among="AB")
    made = views.apply(views.pairs_with_demonstration, [full, without])
    assert made.lines() == [
        "pairs with demonstration: 2 examples gave 1 group, 3 responses, 1 pair, 1 demonstration; "
        "discarded: 1 for no demonstration beside the pairs (a.jsonl:3)",
        "pairs with demonstration: 1 response and 2 comparisons of these examples not used",
    ]
    message = "no pairs with demonstration can be made of that (discarded: 1 for no demonstration beside the pairs)"
    with refused(re.escape(message)):
        views.apply(views.pairs_with_demonstration, [without])
