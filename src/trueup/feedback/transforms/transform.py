"""What a transform is, and how several follow each other.

A view looks at one example and only discards. Whatever needs all of the training examples, or writes something
new into them (standardised rewards, a condition in the prompt, examples of one prompt merged), is a transform
and comes first. It is fitted on the training examples alone and then rewrites those held out in the same way.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trueup.display import data_logger
from trueup.feedback.condition import Condition
from trueup.feedback.records import Example

logger = logging.getLogger(__name__)

Rewrite = Callable[[Sequence[Example]], Sequence[Example]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A transform that has seen the training examples."""

    rewrite: Rewrite
    """Examples -> examples, training or held out."""
    found: tuple[str, ...] = ()
    """What was found in the training examples and is done with it, in words."""
    warnings: tuple[str, ...] = ()
    """What the user should look at."""
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
        """Look at the training examples.

        Raises:
            InputError: they do not hold what the transform needs.
        """


def fit_all(transforms: Sequence[Transform], examples: Sequence[Example]) -> Fitted:
    """Fit transforms one after the other, each on what those before it made of the training examples.

    Raises:
        InputError: see `Transform.fit`.
    """
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
