"""Views of responses by their scores: those to imitate, and how much.

They follow a transform that has put the scores on one scale (`trueup.feedback.transforms`).
"""

from trueup.feedback.groups import DemonstrationRelation, Discarded, Group, WeightRelation
from trueup.feedback.orders import scores
from trueup.feedback.records import Example
from trueup.feedback.views import group

UNSCORED = "no response has a reward"


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
