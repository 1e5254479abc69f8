"""What a transform is, and how several follow each other.

A view looks at one example and only discards. Whatever needs all of the training examples, or writes something
new into them (standardised rewards, a condition in the prompt, examples of one prompt merged), is a transform
and comes first. It is fitted on the training examples alone and then rewrites those held out in the same way.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from trueup.display import data_logger
from trueup.feedback.condition import Condition
from trueup.feedback.records import Comparison, Example, Response, content_key, count
from trueup.words import counted, logger

Rewrite = Callable[[Sequence[Example]], Sequence[Example]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A transform that has seen the training examples."""

    rewrite: Rewrite
    found: tuple[str, ...] = ()
    """What was found in the training examples and is done with it, in words."""
    warnings: tuple[str, ...] = ()
    condition: Condition | None = None
    """What was written into the prompts, to be kept with the model."""

    def log(self) -> None:
        """Tell what was found; not wanted where a transform is fitted to one round of many."""
        for line in self.found:
            data_logger.info(line)
        for line in self.warnings:
            logger.warning(line)


class Transform(Protocol):
    """Rewrites examples in a way that depends on all of the training examples."""

    def fit(self, examples: Sequence[Example]) -> Fitted:
        """Look at the training examples."""


def fit_all(transforms: Sequence[Transform], examples: Sequence[Example]) -> Fitted:
    """Fit transforms one after the other, each on what those before it made of the training examples."""
    fitted: list[Fitted] = []
    for transform in transforms:
        fitted.append(transform.fit(examples))
        examples = fitted[-1].rewrite(examples)

    def rewrite(given: Sequence[Example]) -> Sequence[Example]:
        for one in fitted:
            given = one.rewrite(given)
        return given

    return Fitted(
        rewrite,
        tuple(line for one in fitted for line in one.found),
        tuple(line for one in fitted for line in one.warnings),
        next((one.condition for one in reversed(fitted) if one.condition), None),
    )


@dataclass(frozen=True, slots=True)
class MergedPrompts:
    """Puts all responses to one prompt into one example, where the prompt first stood, and removes duplicates.
    Of responses with the same content the first is kept, with the mean of their scores and of their labels."""

    def fit(self, examples: Sequence[Example]) -> Fitted:
        made = merged(examples)
        line = f"merged by prompt: {counted(len(examples), 'example')} gave {len(made)}"
        if twice := count(examples).responses - count(made).responses:
            line += f"; {counted(twice, 'duplicate response')} removed"
        same = [same for group in by_prompt(examples) for same in by_content(group).values()]
        if differ := sum(
            (one.score, one.label) != (first.score, first.label) for first, *more in same for one in more
        ):
            line += f", {differ} of them judged differently, which get the mean"
        return Fitted(merged, (line,))


def merged(examples: Sequence[Example]) -> list[Example]:
    return [merge(same) for same in by_prompt(examples)]


def by_prompt(examples: Sequence[Example]) -> list[list[Example]]:
    found: dict[object, list[Example]] = {}
    for example in examples:
        found.setdefault(example.prompt.key, []).append(example)
    return list(found.values())


def by_content(examples: Sequence[Example]) -> dict[object, list[Response]]:
    found: dict[object, list[Response]] = {}
    for example in examples:
        for response in example.responses:
            found.setdefault(content_key(response.content), []).append(response)
    return found


def merge(examples: Sequence[Example]) -> Example:
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
    responses = []
    for same in found.values():
        scores = [one.score for one in same if one.score is not None]
        labels = [one.label for one in same if one.label is not None]
        score, label = (statistics.fmean(values) if values else None for values in (scores, labels))
        shown = any(one.demonstration for one in same)
        responses.append(replace(same[0], score=score, label=label, demonstration=shown))
    return Example(examples[0].prompt, tuple(responses), tuple(comparisons.values()), tuple(votes))
