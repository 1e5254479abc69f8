"""Labels: made of scores, thumbs or grades from 0 to 1, never guessed; and what all labels of the training data say."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trueup import display, errors, words
from trueup.feedback import records, transforms, views

Scale = Literal["none", "min-max", "range", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Thumbs:
    """Gives responses that have a score but no label one: 1 from `threshold` on, 0 below; None leaves them alone."""

    threshold: float | None

    def fit(self, examples: Sequence[records.Example]) -> transforms.Fitted:
        if self.threshold is None:
            return transforms.Fitted(list)
        responses = [one for example in examples for one in example.responses if one.label is None]
        labels = [self.label(one.score) for one in responses if one.score is not None]
        if not labels:
            none = "the feedback holds no scores without a label. Leave it out"
            raise errors.InputError(f"desirable_from {self.threshold:g}: {none}")
        good = words.counted(int(sum(labels)), "score")
        line = f"labels: {good} of {len(labels)} from {self.threshold:g} on are desirable"
        return transforms.Fitted(lambda given: [graded(example, self.label) for example in given], (line,))

    def label(self, score: float) -> float:
        assert self.threshold is not None
        return float(score >= self.threshold)


@dataclass(frozen=True, slots=True)
class GradedLabels:
    """Gives responses that have a score but no label one, and marks good ones as demonstrations."""

    scale: Scale = "none"
    """`none` leaves scores alone; `min-max` takes the lowest score of training for 0 and the highest for 1; `range`
    takes `low` and `high`; `sigmoid` takes the logistic function of the standardised score."""
    low: float | None = None
    high: float | None = None
    demonstration_from: float | None = None
    """Labels from this one on count as demonstrations, beside the responses that are marked; None: only those."""

    def __post_init__(self) -> None:
        if (self.scale == "range") != (self.low is not None and self.high is not None):
            ends = f"score_low {self.low} and score_high {self.high}"
            raise errors.InputError(f"scale {self.scale} with {ends}: scale range needs both, and it alone has them")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise errors.InputError(f"score_low {self.low:g} must be below score_high {self.high:g}")

    def fit(self, examples: Sequence[records.Example]) -> transforms.Fitted:
        grade, lines = self.measured(examples)

        def rewrite(given: Sequence[records.Example]) -> Sequence[records.Example]:
            return [self.labelled(example, grade) for example in given]

        if self.demonstration_from is not None:
            before, after = (records.count(some).demonstrations for some in (examples, rewrite(examples)))
            more = f"{words.counted(after - before, 'response')} labelled {self.demonstration_from:g} or more"
            lines.append(f"demonstrations: {more}, beside {before} marked")
        return transforms.Fitted(rewrite, tuple(lines))

    def measured(self, examples: Sequence[records.Example]) -> tuple[Callable[[float], float] | None, list[str]]:
        if self.scale == "none":
            return None, []
        values = [value for example in examples for _, value in records.scores(example)]
        if not values:
            raise errors.InputError(f"scale {self.scale}: the feedback holds no scores to make labels of. Leave it out")
        said = f"labels: scores of {words.counted(len(values), 'response')}, "
        if self.scale == "sigmoid":
            found = transforms.StandardizedRewards().measure(examples)
            said += f"mean {found.mean:.4g}, standard deviation {found.std:.4g}, by the logistic function"
            return lambda score: logistic((score - found.mean) / found.std), [said]
        low = min(values) if self.low is None else self.low
        high = max(values) if self.high is None else self.high
        if low == high:
            raise errors.InputError(f"all {len(values)} scores are {low:g}; they tell no response from another")
        clip = self.scale == "min-max"

        def grade(score: float) -> float:
            label = (score - low) / (high - low)
            if not (clip or 0 <= label <= 1):
                raise ValueError(f"the score {score:g} lies outside the range of scores, {low:g} to {high:g}")
            return min(max(label, 0.0), 1.0)

        return grade, [f"{said}{low:g} is 0 and {high:g} is 1"]

    def labelled(self, example: records.Example, grade: Callable[[float], float] | None) -> records.Example:
        try:
            made = example if grade is None else graded(example, grade)
        except ValueError as error:
            instead = "Give another --score-low and --score-high, or leave the row out"
            raise errors.InputError(f"{example.origin or 'an example'}: {error}. {instead}") from None
        least = self.demonstration_from
        if least is None:
            return made
        found = {at: one.label for at, one in enumerate(made.responses)}
        if not any(one.label is not None or one.demonstration for one in made.responses):
            # As the view of points would label them, so that those labelled enough count as demonstrations.
            found.update(records.clear_wins(made))
        responses = []
        for at, one in enumerate(made.responses):
            label = found[at]
            shown = one.demonstration or (label is not None and label >= least)
            responses.append(replace(one, label=label, demonstration=shown))
        return replace(made, responses=tuple(responses))


def graded(example: records.Example, grade: Callable[[float], float]) -> records.Example:
    def labelled(one: records.Response) -> records.Response:
        return one if one.label is not None or one.score is None else replace(one, label=grade(one.score))

    return replace(example, responses=tuple(map(labelled, example.responses)))


def logistic(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))


# What the labels say together, checked before a run for the methods that learn from them.

LOW, HIGH = 1.0, 4 / 3
"""The range in which (desirable_weight n_D) / (undesirable_weight n_U) should lie, as KTO's authors advise
(Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306, section 4.2)."""
SLACK = 0.1
"""Part of an end of that range by which it may be missed without a warning: labels differ by as much by chance."""


Examples = Sequence[records.Example]


def check_class_balance(examples: Examples, *, desirable_weight: float, undesirable_weight: float) -> None:
    """Tell how many responses are desirable and undesirable; warn where their weights leave the recommended range."""
    if not (labels := labels_of(examples)):
        return
    good = sum(labels)
    bad = len(labels) - good
    if not (good and bad):
        kind = f"there is no {'un' * (not bad)}desirable response to learn from"
        raise errors.InputError(f"all {len(labels)} labels are {labels[0]:g}: {kind}. Give feedback of both kinds")
    display.data_logger.info(f"labels: {good:g} desirable, {bad:g} undesirable")
    ratio = desirable_weight * good / (undesirable_weight * bad)
    if LOW * (1 - SLACK) <= ratio <= HIGH * (1 + SLACK):
        return
    setting, scale, low, high = "desirable-weight", desirable_weight, LOW / ratio, HIGH / ratio
    if ratio > HIGH:
        setting, scale, low, high = "undesirable-weight", undesirable_weight, ratio / HIGH, ratio / LOW
    words.logger.warning(
        f"desirable responses weigh {ratio:.3g} times the undesirable ones; from 1 to 4/3 is advised. "
        f"Set --{setting} between {scale * low:.3g} and {scale * high:.3g}"
    )


def check_classes(examples: Sequence[records.Example]) -> None:
    labels = labels_of(examples)
    if len(set(labels)) == 1:
        words.logger.warning(f"all {len(labels)} labels are {labels[0]:g}, which teaches little. Give both kinds")


def labels_of(examples: Sequence[records.Example]) -> list[float]:
    made = [made for example in examples if not isinstance(made := views.points(example), records.Discarded)]
    return [label for group in made for label in group.relation.labels]
