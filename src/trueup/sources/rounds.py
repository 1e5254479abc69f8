"""Which prompts a round asks and which steps learn from it: arithmetic on the settings alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trueup.sources.order import order


@dataclass(frozen=True, slots=True)
class Rounds:
    """Rounds laid end to end over passes through the prompts.

    Example: 100 prompts, a batch of 8, rounds of 16 prompts with 4 passes are 8 steps a round; 200 prompts in all
    are 13 rounds, the last of 8 prompts and 4 steps.
    """

    prompts: int
    """How many there are."""
    batch_size: int
    """Prompts whose responses one optimizer step learns from."""
    round_prompts: int
    """Prompts of a round."""
    passes: int
    """Passes over a round's responses."""
    total: int
    """Prompts of the whole run, over all passes through them."""
    seed: int
    """Decides their order."""
    steps: int | None = None
    """Optimizer steps after which the run ends, in the middle of a round or not; None takes all of them."""

    @property
    def count(self) -> int:
        return math.ceil(self.total / self.round_prompts)

    @property
    def num_steps(self) -> int:
        full, rest = divmod(self.total, self.round_prompts)
        every = full * self._steps(self.round_prompts) + (self._steps(rest) if rest else 0)
        return every if self.steps is None else min(every, self.steps)

    def round_of(self, step: int) -> int:
        """The round, counted from 1, that optimizer step `step` learns from."""
        return (step - 1) // self._steps(self.round_prompts) + 1

    def first_step(self, number: int) -> int:
        """The first step that learns from a round."""
        return (number - 1) * self._steps(self.round_prompts) + 1

    def places(self, number: int) -> list[int]:
        """Which prompts a round asks."""
        first = (number - 1) * self.round_prompts
        stop = min(first + self.round_prompts, self.total)
        return [
            order(self.seed, place // self.prompts, self.prompts)[place % self.prompts]
            for place in range(first, stop)
        ]

    def chosen(self, step: int, size: int) -> list[int]:
        """Which of the `size` examples that a round gave step `step` learns from.

        A pass deals them out evenly, in an order of its own where it takes several steps; where a round gave fewer
        than its prompts, all of its steps are somewhat smaller.
        """
        number = self.round_of(step)
        per_pass = self._batches(len(self.places(number)))
        which_pass, part = divmod(step - self.first_step(number), per_pass)
        places: tuple[int, ...] = tuple(range(size))
        if per_pass > 1:
            places = order(self.seed, 1_000_000 * number + which_pass, size)
        return list(places[part * size // per_pass : (part + 1) * size // per_pass])

    def _steps(self, prompts: int) -> int:
        return self.passes * self._batches(prompts)

    def _batches(self, prompts: int) -> int:
        return math.ceil(prompts / self.batch_size)
