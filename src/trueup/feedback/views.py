"""Views: what a kind of method uses of an example. A view only discards; it never invents.

Each is a function `Example -> Group | Discarded`. `apply` runs one over all examples and counts.
"""

from collections.abc import Sequence
from typing import TypeVar

from trueup.feedback import orders
from trueup.feedback.records import (
    DemonstratedPairRelation,
    DemonstrationRelation,
    Discarded,
    Example,
    GradedPairRelation,
    Group,
    PairRelation,
    PointRelation,
    RankRelation,
    WeightRelation,
)
from trueup.feedback.viewed import SINGLE
from trueup.feedback.viewed import Viewed as Viewed
from trueup.feedback.viewed import apply as apply

R = TypeVar("R")

IDENTICAL = "identical pair"
CONTRADICTING = "comparisons contradict each other"
SCORES_EQUAL = "all scores equal"
LABELS_EQUAL = "all labels equal"
SCORES_ALONE = (
    "scores are not labels; make labels of them with --scale where the method has it, give labels from 0 to 1, or "
    "rank by scores"
)
UNSCORED = "no response has a reward"
NOT_ALL_SCORED = (
    "a response without a score; comparisons and labels do not do here, give a reward that scores each"
)
ALONE = "a single response, which leaves no other to measure it against"


def pairs(example: Example) -> Group[PairRelation] | Discarded:
    """Which response was preferred to which.

    Comparisons as given, without those of identical responses and those that contradict each other. Where
    there are none: every two responses with different scores; where there are no two scores, with different
    labels.
    """
    found = ordered_pairs(example)
    return found if isinstance(found, Discarded) else group_of_pairs(example, found)


def ordered_pairs(example: Example) -> list[tuple[int, int, float]] | Discarded:
    """(better, worse, probability) of the pairs that `pairs` finds, by the responses' positions in the example."""
    if example.comparisons:
        compared = orders.distinct(example)
        found = [(one.better, one.worse, one.probability) for one in orders.agreed(compared)]
        reason = CONTRADICTING if compared else IDENTICAL
    else:
        given, equal = (orders.scores(example), SCORES_EQUAL)
        if len(given) < 2:
            given, equal = (orders.labels(example), LABELS_EQUAL)
        if len(given) < 2:
            return Discarded("nothing compares two responses", example.origin)
        ordered = [(better, worse) for better, high in given for worse, low in given if high > low]
        contents = [response.content for response in example.responses]
        found = [(better, worse, 1.0) for better, worse in ordered if contents[better] != contents[worse]]
        reason = IDENTICAL if ordered else equal
    return found or Discarded(reason, example.origin)


def group_of_pairs(example: Example, found: Sequence[tuple[int, int, float]]) -> Group[PairRelation]:
    """The group of the responses that stand in the pairs `ordered_pairs` found."""
    used = sorted({position for better, worse, _ in found for position in (better, worse)})
    renumbered = tuple((used.index(better), used.index(worse), sure) for better, worse, sure in found)
    return group(example, used, PairRelation(renumbered))


def pairs_with_demonstration(example: Example) -> Group[DemonstratedPairRelation] | Discarded:
    """As `pairs`, with the first response that is marked as a demonstration, to be imitated beside them."""
    paired = pairs(example)
    if isinstance(paired, Discarded):
        return paired
    marked = [response.content for response in example.responses if response.demonstration]
    if not marked:
        return Discarded("no demonstration beside the pairs", example.origin)
    responses, tokens = paired.responses, paired.tokens
    if marked[0] not in responses:
        responses, tokens = (*responses, marked[0]), (*tokens, None) if tokens else ()
    relation = DemonstratedPairRelation(paired.relation, responses.index(marked[0]))
    return Group(example.prompt, responses, relation, tokens)


def rankings(example: Example) -> Group[RankRelation] | Discarded:
    """A score for each of at least two responses.

    The scores, if all responses have one. Otherwise comparisons, if they order the responses they compare:
    the score is how many of these a response beats, directly or through others. Otherwise labels, if all
    responses have one. Otherwise the responses that have a score, or else those that have a label.
    """
    total = len(example.responses)
    if total == 1:
        return Discarded(SINGLE, example.origin)
    scored, labelled = orders.scores(example), orders.labels(example)
    if len(scored) == total:
        return ranked(example, scored, SCORES_EQUAL)
    if example.comparisons:
        compared = orders.distinct(example)
        if not compared:
            return Discarded(IDENTICAL, example.origin)
        below = orders.beaten(compared)
        if any(position in under for position, under in below.items()):
            return Discarded(CONTRADICTING, example.origin)
        counted = [(position, float(len(below[position]))) for position in sorted(below)]
        # Two responses that nothing compares, directly or through others, must not get different scores.
        if all(
            (high > low) == (worse in below[better]) for better, high in counted for worse, low in counted
        ):
            return ranked(example, counted, CONTRADICTING)
    if len(labelled) == total or len(labelled) >= 2 > len(scored):
        return ranked(example, labelled, LABELS_EQUAL)
    if len(scored) >= 2:
        return ranked(example, scored, SCORES_EQUAL)
    reason = "comparisons leave the order open" if example.comparisons else "nothing ranks two responses"
    return Discarded(reason, example.origin)


def ranked(example: Example, values: Sequence[orders.Value], equal: str) -> Group[RankRelation] | Discarded:
    """The group of the responses with these scores; `equal` is the reason where they are all the same."""
    if orders.all_equal(values):
        return Discarded(equal, example.origin)
    used = [position for position, _ in values]
    if all(example.responses[position].content == example.responses[used[0]].content for position in used):
        return Discarded("all responses identical", example.origin)
    return group(example, used, RankRelation(tuple(value for _, value in values)))


def points(example: Example) -> Group[PointRelation] | Discarded:
    """A label in [0, 1] per response; a demonstration without a label has the label 1.

    Where there is neither, comparisons: 1 for the chosen and 0 for the rejected response, or the probability
    and the rest of it; the mean where a response stands in several. One that was both chosen and rejected is
    left out.
    """
    return labelled_points(example, mark=False)


def points_with_demonstrations(example: Example) -> Group[PointRelation] | Discarded:
    """As `points`, with the demonstrations among them marked."""
    return labelled_points(example, mark=True)


def labelled_points(example: Example, *, mark: bool) -> Group[PointRelation] | Discarded:
    """The points of an example; `mark` says whether demonstrations are marked."""
    found = dict(orders.labels(example))
    for position, response in enumerate(example.responses):
        if response.demonstration:
            found.setdefault(position, 1.0)
    if not found and example.comparisons:
        if not orders.distinct(example):
            return Discarded(IDENTICAL, example.origin)
        found = dict(orders.clear_wins(example))
        if not found:
            return Discarded("every response is both chosen and rejected", example.origin)
    if not found and orders.scores(example):
        return Discarded(SCORES_ALONE, example.origin)
    if not found:
        return Discarded("nothing labels a response", example.origin)
    used = sorted(found)
    marks = tuple(mark and example.responses[position].demonstration for position in used)
    return group(example, used, PointRelation(tuple(found[position] for position in used), marks))


def demonstrations(example: Example) -> Group[DemonstrationRelation] | Discarded:
    """Responses to imitate.

    Those marked as demonstrations. Where there are none: those that were chosen and never rejected; or those
    labelled 1; or the one with the best score, the first of equals.
    """
    used = [position for position, response in enumerate(example.responses) if response.demonstration]
    reason = "nothing says which response to imitate"
    if not used and example.comparisons:
        compared = orders.distinct(example)
        used = sorted(position for position, sure in orders.wins(compared).items() if min(sure) > 0.5)
        reason = "every response lost a comparison" if compared else IDENTICAL
    elif not used and orders.labels(example):
        used = [position for position, label in orders.labels(example) if label == 1]
        reason = "no response labelled 1"
    elif not used and orders.scores(example):
        used = [max(orders.scores(example), key=lambda value: value[1])[0]]
    if not used:
        return Discarded(reason, example.origin)
    return group(example, used, DemonstrationRelation())


# Of responses by their scores, which a transform has put on one scale: those to imitate, and how much.


def filtered_demonstrations(
    example: Example, *, threshold: float
) -> Group[DemonstrationRelation] | Discarded:
    """The responses whose score is above the threshold, not equal to it."""
    if not orders.scores(example):
        return Discarded(UNSCORED, example.origin)
    used = [at for at, score in orders.scores(example) if score > threshold]
    if not used:
        return Discarded("no response is above the threshold", example.origin)
    return group(example, used, DemonstrationRelation())


def best_demonstrations(example: Example) -> Group[DemonstrationRelation] | Discarded:
    """The response with the highest score, the first of equals."""
    if not orders.scores(example):
        return Discarded(UNSCORED, example.origin)
    at, _ = max(orders.scores(example), key=lambda value: value[1])
    return group(example, [at], DemonstrationRelation())


def weighted_demonstrations(example: Example) -> Group[WeightRelation] | Discarded:
    """The responses that have a score, with it for their weight; those of weight 0 are left out."""
    found = [(at, score) for at, score in orders.scores(example) if score > 0]
    if not found:
        return Discarded(UNSCORED, example.origin)
    return group(example, [at for at, _ in found], WeightRelation(tuple(score for _, score in found)))


def graded_pairs(example: Example) -> Group[GradedPairRelation] | Discarded:
    """As `pairs`, with how much better the chosen response of each was scored than the rejected one."""
    found = ordered_pairs(example)
    if isinstance(found, Discarded):
        return found
    known = dict(orders.scores(example))
    gaps = tuple(
        max(0.0, known[better] - known[worse]) if better in known and worse in known else 0.0
        for better, worse, _ in found
    )
    made = group_of_pairs(example, found)
    relation = GradedPairRelation(made.relation, gaps)
    return Group(made.prompt, made.responses, relation, made.tokens)


def scored(example: Example, *, least: int = 1) -> Group[RankRelation] | Discarded:
    """All responses with the score of each, equal ones and identical responses too: they are draws of a policy.

    Args:
        least: how many responses there have to be; 1 or 2.
    """
    found = orders.scores(example)
    if len(found) < len(example.responses):
        return Discarded(NOT_ALL_SCORED, example.origin)
    if len(found) < least:
        return Discarded(ALONE, example.origin)
    return group(example, [at for at, _ in found], RankRelation(tuple(score for _, score in found)))


def group(example: Example, used: Sequence[int], relation: R) -> Group[R]:
    """The group of the responses at the given positions."""
    contents = tuple(example.responses[position].content for position in used)
    tokens = tuple(example.responses[position].tokens for position in used)
    known = tokens if any(tokens) else ()
    return Group(example.prompt, contents, relation, known)
