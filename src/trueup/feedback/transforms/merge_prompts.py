"""Examples of the same prompt as one: what several policies answered, or several files hold, side by side."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trueup.feedback.records import Comparison, Example, Response, content_key
from trueup.feedback.transforms.transform import Fitted
from trueup.words import counted


@dataclass(frozen=True, slots=True)
class MergedPrompts:
    """Puts all responses to one prompt into one example, where the prompt first stood, and removes duplicates.

    Prompts are the same when they are equal to the letter. Of responses with the same content the first is kept,
    with the mean of their scores and of their labels.
    """

    def fit(self, examples: Sequence[Example]) -> Fitted:
        made = merged(examples)
        before = sum(len(example.responses) for example in examples)
        twice = before - sum(len(example.responses) for example in made)
        line = f"merged by prompt: {counted(len(examples), 'example')} gave {len(made)}"
        if twice:
            line += f"; {counted(twice, 'duplicate response')} removed"
        if differ := sum(judged_differently(group) for group in by_prompt(examples)):
            line += f", {differ} of them judged differently, which get the mean"
        return Fitted(merged, (line,))


def merged(examples: Sequence[Example]) -> list[Example]:
    """One example a prompt, in the order in which the prompts first stand."""
    return [merge(same) for same in by_prompt(examples)]


def by_prompt(examples: Sequence[Example]) -> list[list[Example]]:
    """The examples of each prompt."""
    found: dict[object, list[Example]] = {}
    for example in examples:
        found.setdefault(example.prompt.key, []).append(example)
    return list(found.values())


def by_content(examples: Sequence[Example]) -> dict[object, list[Response]]:
    """The responses of some examples with each content."""
    found: dict[object, list[Response]] = {}
    for example in examples:
        for response in example.responses:
            found.setdefault(content_key(response.content), []).append(response)
    return found


def judged_differently(examples: Sequence[Example]) -> int:
    """How many duplicates of the responses to one prompt have another score or label than the first."""
    return sum(
        (response.score, response.label) != (same[0].score, same[0].label)
        for same in by_content(examples).values()
        for response in same[1:]
    )


def merge(examples: Sequence[Example]) -> Example:
    """One example of several with the same prompt."""
    found = by_content(examples)
    place = {key: at for at, key in enumerate(found)}
    comparisons: dict[tuple[int, int], Comparison] = {}
    votes = []
    for example in examples:
        moved = [place[content_key(response.content)] for response in example.responses]
        for one in example.comparisons:
            better, worse = moved[one.better], moved[one.worse]
            if better != worse:
                comparisons.setdefault((better, worse), replace(one, better=better, worse=worse))
        for vote in example.votes:
            if (first := moved[vote.first]) != (second := moved[vote.second]):
                votes.append(replace(vote, first=first, second=second))
    responses = tuple(alike(same) for same in found.values())
    return Example(examples[0].prompt, responses, tuple(comparisons.values()), tuple(votes))


def alike(same: Sequence[Response]) -> Response:
    """One response of several with the same content."""
    return replace(
        same[0],
        score=mean_of([one.score for one in same if one.score is not None]),
        label=mean_of([one.label for one in same if one.label is not None]),
        demonstration=any(one.demonstration for one in same),
    )


def mean_of(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return statistics.fmean(values) if values else None
