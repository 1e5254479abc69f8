"""What a transform is, how several follow each other; and those that put rewards on one scale, or draw by them.

Whatever needs all of the training examples, or writes something new into them, is a transform, before the view.
It is fitted on the training examples alone. As in the published code of Hu et al., 2023,
https://arxiv.org/abs/2308.12050, the unbiased standard deviation of all rewards is taken, in double precision.
"""

import hashlib
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from trueup import display, errors, words
from trueup.feedback import records
from trueup.feedback.condition import Condition
from trueup.feedback.records import Comparison, Example, Response, Value, content_key, count, scores

Rewrite = Callable[[Sequence[Example]], Sequence[Example]]


@dataclass(frozen=True, slots=True)
class Fitted:
    rewrite: Rewrite
    found: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    condition: Condition | None = None
    """What was written into the prompts, to be kept with the model."""

    def log(self) -> None:
        for line in self.found:
            display.data_logger.info(line)
        for line in self.warnings:
            words.logger.warning(line)


class Transform(Protocol):
    def fit(self, examples: Sequence[Example]) -> Fitted:
        """Look at the training examples."""


def fit_all(transforms: Sequence[Transform], examples: Sequence[Example]) -> Fitted:
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
        line = f"merged by prompt: {words.counted(len(examples), 'example')} gave {len(made)}"
        if twice := count(examples).responses - count(made).responses:
            line += f"; {words.counted(twice, 'duplicate response')} removed"
        alike = [same for group in by_prompt(examples) for same in by_content(group).values()]
        judged = [[(one.score, one.label) for one in same] for same in alike]
        if differ := sum(len(same) - same.count(same[0]) for same in judged):
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


def compared(example: Example) -> list[Value]:
    """1 for what was chosen, 0 for what was rejected, or the probability and its rest; the mean of several."""
    won = records.wins(records.agreed(records.distinct(example))) if example.comparisons else {}
    return [(at, sum(sure) / len(sure)) for at, sure in sorted(won.items())]


Find = Callable[[Example], Sequence[Value]]
KINDS: dict[str, Find] = {"scores": scores, "labels": records.labels, "comparisons": compared}
"""What can be taken for rewards, the best first."""
MANY = 0.1
FEW = 0.1
QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class Scale:
    kind: str
    mean: float
    std: float
    count: int

    @property
    def find(self) -> Find:
        return KINDS[self.kind]

    def applied(self, example: Example) -> Example:
        found = {at: (value - self.mean) / self.std for at, value in self.find(example)}
        responses = tuple(replace(one, score=found.get(at)) for at, one in enumerate(example.responses))
        return replace(example, responses=responses)


@dataclass(frozen=True, slots=True)
class StandardizedRewards:
    """Gives every response its reward r as a score, (r - mean) / std, and takes the score from those without one.
    Rewards are the scores; where the training data hold none at all, the labels; where none, 1 and 0 for the chosen
    and the rejected response. One kind serves all examples: two would not be on one scale."""

    mean: float | None = None
    std: float | None = None

    def fit(self, examples: Sequence[Example]) -> Fitted:
        scale = self.measure(examples)
        found = f"{scale.kind} of {words.counted(scale.count, 'response')}, mean {scale.mean:.4g}"
        lines = [f"rewards: {found}, standard deviation {scale.std:.4g}; standardised"]
        if without := sum(not scale.find(example) for example in examples):
            lines.append(f"rewards: {words.counted(without, 'example')} without {scale.kind}")
        return Fitted(lambda given: [scale.applied(example) for example in given], tuple(lines))

    def measure(self, examples: Sequence[Example]) -> "Scale":
        kind = next((name for name, find in KINDS.items() if any(find(one) for one in examples)), None)
        if kind is None:
            none = "no scores, no labels and no comparisons"
            raise errors.InputError(f"the feedback does not say how good a response is: {none}. Give other feedback")
        find = KINDS[kind]
        values = [value for example in examples for _, value in find(example)]
        mean = statistics.fmean(values) if self.mean is None else self.mean
        spread = self.std
        if spread is None:
            own = statistics.fmean(values)
            squares = math.fsum((value - own) ** 2 for value in values)
            spread = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else 0.0
        if not spread > 0:
            raise errors.InputError(f"all {len(values)} rewards are {values[0]:g}. Give feedback with differences")
        return Scale(kind, mean, spread, len(values))


@dataclass(frozen=True, slots=True)
class ExponentialWeights:
    """Gives every response the weight min(exp(r / beta), largest) for its score; r is its standardised reward.
    Reward-weighted regression: Peters and Schaal, 2007, https://doi.org/10.1145/1273496.1273590; Hu et al., 2023."""

    beta: float
    largest: float
    rewards: StandardizedRewards = field(default_factory=StandardizedRewards)

    def fit(self, examples: Sequence[Example]) -> Fitted:
        scale = self.rewards.measure(examples)
        weights = [self.weight(value) for example in examples for _, value in scores(scale.applied(example))]
        if not any(weights):
            raise errors.InputError(f"beta {self.beta:g} makes every weight exp(r / beta) vanish. Give a larger one")
        size = math.fsum(weights) ** 2 / math.fsum(weight**2 for weight in weights)
        clipped = sum(weight >= self.largest for weight in weights)
        share = size / len(weights)
        lines = [
            *self.rewards.fit(examples).found,
            f"weights exp(r / {self.beta:g}): effective sample size {size:.1f} of {len(weights)} responses "
            f"({100 * share:.0f} %), {clipped} clipped to {self.largest:g}",
        ]
        warnings = []
        if clipped > MANY * len(weights):
            alike = f"{clipped} of {len(weights)} weights are clipped to {self.largest:g} and so alike"
            warnings.append(f"{alike}. Raise --beta or --max-weight")
        if share < FEW:
            equivalent = f"{size:.1f} of {len(weights)} responses"
            warnings.append(f"the weights rest on the equivalent of {equivalent}; a larger --beta spreads them")

        def rewrite(given: Sequence[Example]) -> Sequence[Example]:
            return [self.weighted(scale.applied(example)) for example in given]

        return Fitted(rewrite, tuple(lines), tuple(warnings))

    def weight(self, reward: float) -> float:
        exponent = reward / self.beta
        return self.largest if exponent >= math.log(self.largest) else math.exp(exponent)

    def weighted(self, example: Example) -> Example:
        found = {at: self.weight(value) for at, value in scores(example)}
        responses = tuple(replace(one, score=found.get(at)) for at, one in enumerate(example.responses))
        return replace(example, responses=responses)


@dataclass(frozen=True, slots=True)
class WrittenReward:
    """Makes one example of every response, a demonstration to the prompt with its standardised reward in it."""

    text: str
    decimals: int
    position: str
    ask_for: float | None = None
    """The standardised reward to ask the finished model for; None takes the 99th percentile of training."""
    rewards: StandardizedRewards = field(default_factory=StandardizedRewards)

    def fit(self, examples: Sequence[Example]) -> Fitted:
        scale = self.rewards.measure(examples)
        found = sorted(value for one in examples for _, value in scores(scale.applied(one)))
        reward = found[math.ceil(QUANTILE * len(found)) - 1] if self.ask_for is None else self.ask_for
        numbers = (reward, scale.mean, scale.std, found[-1], found[0])
        try:
            condition = Condition(self.text, self.decimals, self.position, *numbers)
        except ValueError as error:
            raise errors.InputError(f"the condition cannot be written: {error}") from None
        lowest, highest = condition.words(found[0]), condition.words(found[-1])
        lines = [
            *self.rewards.fit(examples).found,
            f"condition at the {self.position} of the prompt, from {lowest!r} to {highest!r}; the finished model is "
            f"asked with {condition.words()!r}",
        ]
        if without := count(examples).responses - len(found):
            lines.append(f"condition: {words.counted(without, 'response')} without a reward not used")
        warnings = []
        if reward > found[-1]:
            above = f"the reward to ask for, {reward:g}, is above every reward of training ({found[-1]:.3g} at most)"
            warnings.append(f"{above}: what the model makes of it is a guess. `trueup condition` tells which is best")

        def rewrite(given: Sequence[Example]) -> Sequence[Example]:
            return [made for one in given for made in conditioned(scale.applied(one), condition)]

        return Fitted(rewrite, tuple(lines), tuple(warnings), condition)


def conditioned(example: Example, condition: Condition) -> list[Example]:
    made = []
    for at, score in scores(example):
        shown = replace(example.responses[at], demonstration=True)
        made.append(Example(condition.applied(example.prompt, score), (shown,)))
    return made


@dataclass(frozen=True, slots=True)
class RejectionSampled:
    """Keeps some of the scored responses to each prompt as if drawn from pi(y) exp(r(y) / beta), pi their policy.

    Liu et al., 2023, https://arxiv.org/abs/2309.06657, Algorithm 1: pass after pass over the candidates that are left,
    each is taken with the probability exp((r - r_max) / beta), r_max the highest score at the start of the pass,
    until there are `keep`. The draws of a prompt depend on it and on its responses alone. Scores alone order what is
    kept: comparisons are taken out.
    """

    beta: float
    """In score; near 0 the best are kept, far above the spread of scores any."""
    keep: int
    """How many responses; examples with no more keep all of theirs."""

    def fit(self, examples: Sequence[Example]) -> Fitted:
        before, after = (count(many).responses for many in (examples, self._rewrite(examples)))
        line = f"rejection sampling kept {after} of {words.counted(before, 'response')}, {self.keep} a prompt"
        return Fitted(self._rewrite, (line,))

    def _rewrite(self, examples: Sequence[Example]) -> list[Example]:
        return [self._kept(example) for example in examples]

    def _kept(self, example: Example) -> Example:
        scored = [(value, example.responses[at]) for at, value in scores(example)]
        if len(scored) <= self.keep:
            return replace(example, comparisons=(), votes=())
        said = repr((example.prompt.key, [(one.content, score) for score, one in scored]))
        chance = random.Random(hashlib.sha256(said.encode()).digest())
        taken: list[Response] = []
        while len(taken) < self.keep:
            highest, left = max(score for score, _ in scored), []
            for score, one in scored:
                if len(taken) < self.keep and chance.random() < math.exp((score - highest) / self.beta):
                    taken.append(one)
                else:
                    left.append((score, one))
            scored = left
        return replace(example, responses=tuple(taken), comparisons=(), votes=())
