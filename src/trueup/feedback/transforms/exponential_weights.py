"""Weights exp(r / beta) of rewards, for reward-weighted regression.

Peters and Schaal, 2007, https://doi.org/10.1145/1273496.1273590; Hu et al., 2023, https://arxiv.org/abs/2308.12050.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from trueup.errors import InputError
from trueup.feedback.orders import scores
from trueup.feedback.records import Example
from trueup.feedback.transforms.rewards import StandardizedRewards
from trueup.feedback.transforms.transform import Fitted

MANY = 0.1
"""Share of clipped weights above which they are worth a warning."""
FEW = 0.1
"""Share of the responses below which the effective sample size is worth a warning."""


@dataclass(frozen=True, slots=True)
class ExponentialWeights:
    """Gives every response the weight min(exp(r / beta), largest) for its score; r is its standardised reward."""

    beta: float
    largest: float
    rewards: StandardizedRewards = field(default_factory=StandardizedRewards)

    rewrites = True

    def fit(self, examples: Sequence[Example]) -> Fitted:
        scale = self.rewards.measure(examples)
        weights = [self.weight(value) for example in examples for _, value in scores(scale.applied(example))]
        if not any(weights):
            raise InputError(f"beta {self.beta:g} makes every weight exp(r / beta) vanish. Give a larger one")
        size = math.fsum(weights) ** 2 / math.fsum(weight**2 for weight in weights)
        clipped = sum(weight >= self.largest for weight in weights)
        share = size / len(weights)
        lines = [
            *self.rewards.fit(examples).lines,
            f"weights exp(r / {self.beta:g}): effective sample size {size:.1f} of {len(weights)} responses "
            f"({100 * share:.0f} %), {clipped} clipped to {self.largest:g}",
        ]
        warnings = []
        if clipped > MANY * len(weights):
            warnings.append(
                f"{clipped} of {len(weights)} weights are clipped to {self.largest:g} and so alike: a smaller beta no "
                "longer tells good from better. Raise --beta or --max-weight"
            )
        if share < FEW:
            warnings.append(
                f"the weights rest on the equivalent of {size:.1f} of {len(weights)} responses; a larger --beta "
                "spreads them"
            )

        def rewrite(given: Sequence[Example]) -> Sequence[Example]:
            return [self.weighted(scale.applied(example)) for example in given]

        return Fitted(rewrite, tuple(lines), tuple(warnings))

    def weight(self, reward: float) -> float:
        """Of a standardised reward."""
        exponent = reward / self.beta
        return self.largest if exponent >= math.log(self.largest) else math.exp(exponent)

    def weighted(self, example: Example) -> Example:
        """The example with weights for its scores."""
        found = {at: self.weight(value) for at, value in scores(example)}
        responses = tuple(replace(one, score=found.get(at)) for at, one in enumerate(example.responses))
        return replace(example, responses=responses)
