"""Canonical rows: everything, or what one view uses, put in the words of that view.

What a view of pairs finds is written as comparisons, a ranking as scores, points as labels. Reading the
output again, the view finds exactly what it found in the input.
"""

from collections.abc import Callable
from dataclasses import replace

from trueup.feedback import views
from trueup.feedback.canonical import example_to_row
from trueup.feedback.convert.pieces import Piece, Pieces, Target, bare, look
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Comparison, Example, Response


def everything(example: Example) -> Pieces:
    """The example as it is."""
    return (Piece(example, tuple(range(len(example.responses)))),)


def pairs(example: Example) -> Pieces | Discarded:
    """The responses that stand in a pair, and a comparison for each pair."""
    looked = look(views.pairs, example)
    if isinstance(looked, Discarded):
        return looked
    group, positions = looked
    compared = tuple(Comparison(*one) for one in group.relation.pairs)
    return one_piece(example, [unjudged(example.responses[at]) for at in positions], positions, compared)


def rankings(example: Example) -> Pieces | Discarded:
    """The responses that are ranked, each with its score."""
    looked = look(views.rankings, example)
    if isinstance(looked, Discarded):
        return looked
    group, positions = looked
    scored = [
        replace(unjudged(example.responses[at]), score=score)
        for at, score in zip(positions, group.relation.scores, strict=True)
    ]
    return one_piece(example, scored, positions)


def points(example: Example) -> Pieces | Discarded:
    """The responses that have a label or are marked as demonstrations; nothing else is a label by itself."""
    looked = look(views.points_with_demonstrations, example)
    if isinstance(looked, Discarded):
        return looked
    group, positions = looked
    labelled = []
    for at, label, marked in zip(
        positions, group.relation.labels, group.relation.demonstrations, strict=True
    ):
        response = example.responses[at]
        # A demonstration goes without a label: it is taken for 1 again.
        unsaid = marked and response.label is None
        labelled.append(replace(unjudged(response), label=None if unsaid else label, demonstration=marked))
    return one_piece(example, labelled, positions)


def unjudged(response: Response) -> Response:
    """The response without what is said of it; who wrote it, and in which tokens, stays."""
    return replace(bare(response), tokens=response.tokens)


def one_piece(
    example: Example,
    responses: list[Response],
    positions: tuple[int, ...],
    comparisons: tuple[Comparison, ...] = (),
) -> Pieces:
    """The example with these responses and comparisons, and all else as it is."""
    return (Piece(replace(example, responses=tuple(responses), comparisons=comparisons), positions),)


def no_pair(example: Example, position: int) -> str:
    """Why a comparison is no pair, as a clause."""
    one = example.comparisons[position]
    same = example.responses[one.better].content == example.responses[one.worse].content
    return "its two responses are identical" if same else views.CONTRADICTING


def because(clause: str) -> Callable[[Example, int], str]:
    """The same reason whatever the response."""
    return lambda example, position: clause


CANONICAL = Target("canonical", everything, example_to_row, "the canonical form", because("of nothing"))
PAIRS = Target("pairs", pairs, example_to_row, "a file of pairs", because("no pair uses it"), no_pair)
RANKINGS = Target("rankings", rankings, example_to_row, "a file of rankings", because("it has no rank"))
POINTS = Target("points", points, example_to_row, "a file of points", because("nothing labels it"))
