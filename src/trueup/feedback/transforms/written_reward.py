"""Every response's reward written into its prompt. Hu et al., 2023, https://arxiv.org/abs/2308.12050."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.feedback.orders import scores
from trueup.feedback.records import Example
from trueup.feedback.transforms.rewards import StandardizedRewards
from trueup.feedback.transforms.transform import Fitted
from trueup.words import counted

QUANTILE = 0.99
"""Of the training rewards: what is asked for unless told otherwise. The highest may have been seen only once."""


@dataclass(frozen=True, slots=True)
class WrittenReward:
    """Makes one example of every response: the prompt with the response's standardised reward in it.

    The response is marked as a demonstration, and the condition is kept for the model.
    """

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
        try:
            condition = Condition(
                self.text, self.decimals, self.position, reward, scale.mean, scale.std, found[-1], found[0]
            )
        except ValueError as error:
            raise InputError(f"the condition cannot be written: {error}") from None
        lowest, highest = condition.words(found[0]), condition.words(found[-1])
        lines = [
            *self.rewards.fit(examples).lines,
            f"condition at the {self.position} of the prompt, from {lowest!r} to {highest!r}; the finished model is "
            f"asked with {condition.words()!r}",
        ]
        without = sum(len(one.responses) for one in examples) - len(found)
        if without:
            lines.append(f"condition: {counted(without, 'response')} without a reward not used")
        warnings = []
        if reward > found[-1]:
            warnings.append(
                f"the reward to ask for, {reward:g}, is above every reward of training ({found[-1]:.3g} at most): what "
                "the model makes of it is a guess. `trueup condition` tells which is best"
            )

        def rewrite(given: Sequence[Example]) -> Sequence[Example]:
            return [made for one in given for made in conditioned(scale.applied(one), condition)]

        return Fitted(rewrite, tuple(lines), tuple(warnings), condition)


def conditioned(example: Example, condition: Condition) -> list[Example]:
    """One example for each response that has a score."""
    return [
        replace(
            example,
            prompt=condition.applied(example.prompt, score),
            responses=(replace(example.responses[at], demonstration=True),),
            comparisons=(),
        )
        for at, score in scores(example)
    ]
