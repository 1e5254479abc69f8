"""Views of responses by their scores: those to imitate, and how much.

They follow a transform that has put the scores on one scale (`trueup.feedback.transforms`).
"""

from trueup.feedback.groups import (
    DemonstrationRelation,
    Discarded,
    GradedPairRelation,
    Group,
    RankRelation,
    WeightRelation,
)
from trueup.feedback.orders import scores
from trueup.feedback.records import Example
from trueup.feedback.views import group, group_of_pairs, ordered_pairs

UNSCORED = "no response has a reward"
NOT_ALL_SCORED = (
    "a response without a score; comparisons and labels do not do here, give a reward that scores each"
)
ALONE = "a single response, which leaves no other to measure it against"


def filtered_demonstrations(
    example: Example, *, threshold: float
) -> Group[DemonstrationRelation] | Discarded:
    """The responses whose score is above the threshold, not equal to it."""
    if not scores(example):
        return Discarded(UNSCORED, example.origin)
    used = [at for at, score in scores(example) if score > threshold]
    if not used:
        return Discarded("no response is above the threshold", example.origin)
    return group(example, used, DemonstrationRelation())


def best_demonstrations(example: Example) -> Group[DemonstrationRelation] | Discarded:
    """The response with the highest score, the first of equals."""
    if not scores(example):
        return Discarded(UNSCORED, example.origin)
    at, _ = max(scores(example), key=lambda value: value[1])
    return group(example, [at], DemonstrationRelation())


def weighted_demonstrations(example: Example) -> Group[WeightRelation] | Discarded:
    """The responses that have a score, with it for their weight; those of weight 0 are left out."""
    found = [(at, score) for at, score in scores(example) if score > 0]
    if not found:
        return Discarded(UNSCORED, example.origin)
    return group(example, [at for at, _ in found], WeightRelation(tuple(score for _, score in found)))


def graded_pairs(example: Example) -> Group[GradedPairRelation] | Discarded:
    """As `pairs`, with how much better the chosen response of each was scored than the rejected one."""
    found = ordered_pairs(example)
    if isinstance(found, Discarded):
        return found
    known = dict(scores(example))
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
    found = scores(example)
    if len(found) < len(example.responses):
        return Discarded(NOT_ALL_SCORED, example.origin)
    if len(found) < least:
        return Discarded(ALONE, example.origin)
    return group(example, [at for at, _ in found], RankRelation(tuple(score for _, score in found)))
