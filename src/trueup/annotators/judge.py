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
