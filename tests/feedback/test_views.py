"""Every view by value, and the laws of views."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import InputError
from trueup.feedback import views
from trueup.feedback.records import (
    Comparison,
    Discarded,
    Example,
    Group,
    Message,
    Origin,
    PairRelation,
    PointRelation,
    Prompt,
    RankRelation,
    Response,
    View,
)
from trueup.feedback.views import apply, graded_pairs, pairs

SAID = {"A": Response("A"), "B": Response("B"), "C": Response("C"), "D": Response("D")}
ALL = (views.pairs, views.rankings, views.points, views.points_with_demonstrations, views.demonstrations)


def compared(*comparisons: str, among: str = "ABC") -> Example:
    """An example whose comparisons are written `A>B` or, with a probability, `A>B 0.8`."""
    found = []
    for one in comparisons:
        pair, _, sure = one.partition(" ")
        found.append(Comparison(among.index(pair[0]), among.index(pair[2]), float(sure or 1)))
    return Example(Prompt("p"), tuple(SAID[letter] for letter in among), tuple(found))


def scored(*scores: float | None) -> Example:
    """An example with the responses A, B, ... and their scores."""
    return Example(
        Prompt("p"), tuple(Response(letter, score=one) for letter, one in zip("ABCD", scores, strict=False))
    )


def labelled(*labels: float | None) -> Example:
    """An example with the responses A, B, ... and their labels."""
    return Example(
        Prompt("p"), tuple(Response(letter, label=one) for letter, one in zip("ABCD", labels, strict=False))
    )


def shown(made: Group[Any] | Discarded) -> object:
    """What a view made, in short: responses as letters, then the relation; or the reason."""
    if isinstance(made, Discarded):
        return made.reason
    letters = "".join(str(one) for one in made.responses)
    relation = made.relation
    if isinstance(relation, PairRelation):
        return letters, [(letters[a] + letters[b], sure) for a, b, sure in relation.pairs]
    if isinstance(relation, RankRelation):
        return letters, list(relation.scores)
    if isinstance(relation, PointRelation):
        return letters, list(relation.labels), list(relation.demonstrations)
    return letters


DEMONSTRATION = Example(Prompt("p"), (Response("A", demonstration=True),))
BOTH = Example(
    Prompt("p"), (Response("A", demonstration=True), Response("B", label=0.0), Response("C", score=1.0))
)
TWINS = Example(Prompt("p"), (SAID["A"], SAID["A"]), (Comparison(0, 1),))
MIXED = Example(Prompt("p"), (Response("A", score=1.0), Response("B", score=2.0)), (Comparison(0, 1),))


@pytest.mark.parametrize(
    ("example", "expected"),
    [
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
        (Example(Prompt("p"), (Response("A", score=1.0), Response("A", score=0.0))), "identical pair"),
    ],
)
def test_pairs(example: Example, expected: object) -> None:
    assert shown(views.pairs(example)) == expected


@pytest.mark.parametrize(
    ("example", "expected"),
    [
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
        (
            Example(Prompt("p"), (Response("A", score=1.0), Response("A", score=0.0))),
            "all responses identical",
        ),
    ],
)
def test_rankings(example: Example, expected: object) -> None:
    assert shown(views.rankings(example)) == expected


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (labelled(1, None, 0.3), ("AC", [1, 0.3], [False, False])),
        (compared("A>B"), ("AB", [1, 0], [False, False])),
        (compared("A>B 0.75"), ("AB", [0.75, 0.25], [False, False])),
        (compared("A>B", "A>C 0.75"), ("ABC", [0.875, 0, 0.25], [False] * 3)),
        (compared("A>B", "B>C"), ("AC", [1, 0], [False, False])),
        (compared("A>B", "B>A"), "every response is both chosen and rejected"),
        (TWINS, "identical pair"),
        (
            scored(1, 0),
            "scores are not labels; make labels of them with --scale where the method has it, give labels from 0 to 1, "
            "or rank by scores",
        ),
        (DEMONSTRATION, ("A", [1], [False])),
        (BOTH, ("AB", [1, 0], [False, False])),
        (compared(), "nothing labels a response"),
    ],
)
def test_points(example: Example, expected: object) -> None:
    assert shown(views.points(example)) == expected


def test_points_with_demonstrations() -> None:
    assert shown(views.points_with_demonstrations(BOTH)) == ("AB", [1, 0], [True, False])
    assert shown(views.points_with_demonstrations(labelled(1))) == ("A", [1], [False])
    marked = Example(Prompt("p"), (Response("A", label=0.9, demonstration=True),))
    assert shown(views.points_with_demonstrations(marked)) == ("A", [0.9], [True])


@pytest.mark.parametrize(
    ("example", "expected"),
    [
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
)
def test_demonstrations(example: Example, expected: object) -> None:
    assert shown(views.demonstrations(example)) == expected


def test_a_group_keeps_prompt_and_origin() -> None:
    example = Example(
        Prompt((Message("user", "p"),), origin=Origin("a.jsonl", 3)),
        (SAID["A"], SAID["B"]),
        (Comparison(1, 0),),
    )
    made = views.pairs(example)
    assert made == Group(example.prompt, ("A", "B"), PairRelation(((1, 0, 1.0),)))
    assert views.points(Example(Prompt("p", origin=example.origin), (SAID["A"],))) == Discarded(
        "nothing labels a response", example.origin
    )


@st.composite
def any_example(draw: st.DrawFn) -> Example:
    """Examples with few and often equal values, so that ties, cycles and twins occur."""
    few = st.none() | st.sampled_from([0.0, 0.5, 1.0])
    responses = st.builds(
        Response,
        st.sampled_from(["A", "B", "C", "D", "E"]),
        score=few,
        label=few,
        demonstration=st.booleans(),
    )
    plain = st.builds(Response, st.sampled_from(["A", "B", "C", "D", "E"]))
    listed = draw(
        st.lists(responses | plain, min_size=1, max_size=4) | st.lists(plain, min_size=1, max_size=4)
    )
    positions = st.integers(0, len(listed) - 1)
    pairs = st.tuples(positions, positions, st.sampled_from([0.75, 1.0])).filter(lambda one: one[0] != one[1])
    comparisons = draw(st.lists(pairs, max_size=4)) if len(listed) > 1 else []
    return Example(Prompt("p"), tuple(listed), tuple(Comparison(*one) for one in comparisons))


def relations(made: Group[Any] | Discarded) -> object:
    """What a view made, whatever the order of the responses."""
    if isinstance(made, Discarded):
        return made.reason
    relation, said = made.relation, made.responses
    if isinstance(relation, PairRelation):
        return sorted((str(said[a]), str(said[b]), sure) for a, b, sure in relation.pairs)
    if isinstance(relation, RankRelation):
        return sorted(zip(map(str, said), relation.scores, strict=True))
    if isinstance(relation, PointRelation):
        return sorted(zip(map(str, said), relation.labels, relation.demonstrations, strict=True))
    return sorted(map(str, said))


@settings(max_examples=300, deadline=None)
@given(example=any_example(), data=st.data())
def test_laws(example: Example, data: st.DataObject) -> None:
    """A view only discards, lists what stands in its relation, and does not heed the order of responses."""
    order = data.draw(st.permutations(range(len(example.responses))))
    permuted = Example(
        example.prompt,
        tuple(example.responses[position] for position in order),
        tuple(
            Comparison(order.index(one.better), order.index(one.worse), one.probability)
            for one in example.comparisons
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
    if isinstance(relation, PairRelation):
        assert {position for one in relation.pairs for position in one[:2]} == set(range(len(made.responses)))
        assert all(made.responses[better] != made.responses[worse] for better, worse, _ in relation.pairs)
    if isinstance(relation, RankRelation):
        assert len(relation.scores) == len(made.responses) >= 2 and len(set(relation.scores)) > 1
    if isinstance(relation, PointRelation):
        assert len(relation.labels) == len(relation.demonstrations) == len(made.responses) >= 1
        assert all(0 <= label <= 1 for label in relation.labels)


def with_origin(examples: Iterable[Example]) -> list[Example]:
    """The examples as the rows of a file."""
    return [
        Example(replace(one.prompt, origin=Origin("a.jsonl", row)), one.responses, one.comparisons)
        for row, one in enumerate(examples, start=1)
    ]


def test_apply_counts() -> None:
    examples = with_origin([compared("A>B"), TWINS, compared("A>B", "B>A", "A>C"), *[TWINS] * 3])
    made = views.apply(views.pairs, examples)
    assert (made.view, made.examples, len(made.groups), made.responses) == ("pairs", 6, 2, 4)
    assert (made.units, made.responses_left_out, made.comparisons_left_out) == ({"pairs": 2}, 2, 2)
    assert [str(one) for one in made.discarded["identical pair"]] == [
        f"a.jsonl:{row}" for row in (2, 4, 5, 6)
    ]
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


def test_apply_names_a_view_with_settings() -> None:
    assert views.apply(partial(views.labelled_points, mark=True), [DEMONSTRATION]).view == "labelled points"


def test_apply_to_nothing() -> None:
    with pytest.raises(InputError, match="there are no examples to make pairs of"):
        views.apply(views.pairs, [])
    message = (
        "the 2 examples of a.jsonl hold 2 demonstrations, and no pairs can be made of that (discarded: 2 for "
        "nothing compares two responses); give other feedback, or choose a method that uses this kind"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        views.apply(views.pairs, with_origin([DEMONSTRATION] * 2))


PLACE = Origin("examples.jsonl", 4)


def drawn(*scores: float | None, **more: object) -> Example:
    responses = tuple(Response("yes", score=score, tokens=(5, 2)) for score in scores)
    return Example(Prompt("say:", origin=PLACE), responses, **more)  # type: ignore[arg-type]


def test_all_responses_stay_with_their_scores_and_tokens() -> None:
    """Identical responses with equal scores too: they are draws."""
    found = views.scored(drawn(1.0, 1.0, -2.5))
    assert not isinstance(found, Discarded)
    assert found.relation == RankRelation((1.0, 1.0, -2.5))
    assert found.responses == ("yes", "yes", "yes")
    assert found.tokens == ((5, 2),) * 3
    assert found.origin == PLACE


def test_one_response_does_where_none_is_compared() -> None:
    found = views.scored(drawn(0.0))
    assert not isinstance(found, Discarded) and found.relation.scores == (0.0,)
    assert views.scored(drawn(0.0), least=2) == Discarded(views.ALONE, PLACE)
    assert not isinstance(views.scored(drawn(0.0, 0.0), least=2), Discarded)


def test_a_response_without_a_score_discards_the_example() -> None:
    assert views.scored(drawn(1.0, None)) == Discarded(views.NOT_ALL_SCORED, PLACE)
    compared = drawn(None, None, comparisons=(Comparison(0, 1),))
    assert views.scored(compared) == Discarded(views.NOT_ALL_SCORED, PLACE)
    assert views.scored(compared, least=2) == Discarded(views.NOT_ALL_SCORED, PLACE)


def graded(scores: Sequence[float | None], *compared: tuple[int, int]) -> Example:
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
    found = gaps(graded([0.5, 3.0, None, -1.0]))
    assert found == {("r1", "r0"): 2.5, ("r1", "r3"): 4.0, ("r0", "r3"): 1.5}


def test_comparisons_take_it_from_scores_beside_them() -> None:
    """None where a response has none, or where the scores say the opposite."""
    assert gaps(graded([None, 3.0, 1.0, 2.0], (1, 2), (2, 3), (0, 1))) == {
        ("r1", "r2"): 2.0, ("r2", "r3"): 0.0, ("r0", "r1"): 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        graded([0.5, 3.0, None, -1.0]),
        graded([None, None, None], (2, 0), (0, 1)),
        graded([1.0, 2.0, None, 4.0], (1, 3), (0, 2)),
        graded([None, None], (0, 1), (1, 0)),
        graded([1.0, 1.0]),
        graded([None]),
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
    viewed = apply(graded_pairs, [graded([0.5, 3.0, None, -1.0]), graded([None, None], (0, 1))])
    assert viewed.lines()[0] == "graded pairs: 2 examples gave 2 groups, 5 responses, 4 pairs"


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
