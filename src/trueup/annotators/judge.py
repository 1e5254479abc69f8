"""What a judge is: something that reads a question with two possible answers and says how likely it finds the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Question:
    """Two responses laid before a judge in one order."""

    text: str
    """All that the judge is told, as one text; a judge that takes messages is told it as a user's."""
    labels: tuple[str, str] = ("1", "2")
    """The two answers; the first stands for the response shown first."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How likely the judge finds the first label, of the two alone: in [0, 1]."""

    first: float


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer that is neither label, or none at all."""

    reason: str
    """A short phrase, the same for every answer with this fault: `the answer is neither label`."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a judge says of two responses, asked in both orders."""

    forward: Verdict | Unreadable
    """With the first of the two shown first."""
    backward: Verdict | Unreadable
    """With the second of the two shown first."""

    @property
    def first(self) -> float | None:
        """How likely the first of the two is the better one, the mean of both orders; None where one is unreadable.

        Exchanging the two gives exactly 1 minus it, to the last bit, and a judge that goes by the place alone gives
        exactly 0.5.
        """
        if isinstance(self.forward, Unreadable) or isinstance(self.backward, Unreadable):
            return None
        # (forward + 1 - backward) / 2, rounded alike on both sides of a half: 1 - p is exact for p in [0.5, 1].
        surer = 0.5 + abs(self.forward.first - self.backward.first) / 2
        return surer if self.forward.first >= self.backward.first else 1 - surer

    @property
    def flipped(self) -> bool:
        """Whether the judge prefers the same place in both orders, and so another response in each."""
        if isinstance(self.forward, Unreadable) or isinstance(self.backward, Unreadable):
            return False
        return min(self.forward.first, self.backward.first) > 0.5 or (
            max(self.forward.first, self.backward.first) < 0.5
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """What a judge said."""

    verdicts: tuple[Verdict | Unreadable, ...]
    """In the order of the questions."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What it took, as sums: `requests`, `cached`, `tokens`, `cost`, ..."""


class Judge(Protocol):
    """Answers questions, each by itself."""

    @property
    def name(self) -> str:
        """For messages and records."""
        ...

    def ask(self, questions: Sequence[Question]) -> Heard:
        """An answer to each question; one that cannot be read has been asked again as often as the judge allows.

        Raises:
            AnnotatorError: it cannot be reached or afforded.
        """
        ...
