"""What an annotator is: something that judges the responses of examples."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trueup.errors import AnnotatorError
from trueup.feedback.records import Content, Discarded, Example

FEWEST = 20
"""Answers below which a share of them says nothing."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """What an annotator made of examples."""

    examples: tuple[Example | Discarded, ...]
    """In the order given: the example with scores on its responses or with comparisons; or why it has neither. An
    example of which only some verdicts could be read keeps those."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What it took, as sums: `verdicts` asked for, `unreadable`, `cached`, `requests`, `tokens`, `cost`, ..."""

    @property
    def kept(self) -> tuple[Example, ...]:
        """The examples that were judged."""
        return tuple(one for one in self.examples if isinstance(one, Example))

    @property
    def dropped(self) -> tuple[Discarded, ...]:
        """Those that were not, and why."""
        return tuple(one for one in self.examples if isinstance(one, Discarded))


class Annotator(Protocol):
    """Judges responses, by scores (higher is better, on one scale for all prompts) or by comparisons.

    A judgement depends on prompt and responses alone, never on what was judged before, so that a run that is
    resumed is judged as one that was not interrupted.
    """

    @property
    def name(self) -> str:
        """For messages and records."""
        ...

    @property
    def gives(self) -> str:
        """`scores` or `comparisons`."""
        ...

    def annotate(self, examples: Sequence[Example]) -> Annotated:
        """Judge the responses of each example; what was said of them before is replaced.

        Raises:
            InputError: an example cannot be judged by this annotator at all; it is named.
            AnnotatorError: it cannot be reached or afforded, or too many of its verdicts cannot be read. What it has
                judged by then is in its cache.
        """
        ...


class Unusable:
    """Counts answers that cannot be used, and stops where they are too many.

    Args:
        most: share of all that may be.
        what: are counted: `verdicts`.
        use: that cannot be made of them: `read`.
        instead: what to choose where they are too many.
    """

    def __init__(self, most: float, what: str, use: str, instead: str) -> None:
        self._most, self._what, self._use, self._instead = most, what, use, instead
        self._all = 0
        self._reasons: Counter[str] = Counter()

    def add(self, name: str, reasons: Sequence[str | None]) -> None:
        """Count some more.

        Args:
            name: of who gave them.
            reasons: why each cannot be used; None where it can.

        Raises:
            AnnotatorError: too many of all so far cannot.
        """
        self._all += len(reasons)
        self._reasons.update(one for one in reasons if one is not None)
        bad = self._reasons.total()
        if self._all >= FEWEST and bad > self._most * self._all:
            common = ", ".join(f"{reason} ({count})" for reason, count in self._reasons.most_common(3))
            raise AnnotatorError(
                f"{name}: {bad} of {self._all} {self._what} ({bad / self._all:.0%}) cannot be {self._use}, and no more "
                f"than {self._most:.0%} may: {common}. Choose {self._instead}, or raise annotator.max_unreadable"
            )


def summed(facts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums by name."""
    sums: dict[str, float] = {}
    for one in facts:
        for name, value in one.items():
            sums[name] = sums.get(name, 0) + value
    return sums


class Scorer(Protocol):
    """Says in one number how good a response is; higher is better, on one scale for all prompts."""

    def __call__(self, prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        """One finite number for each response.

        Args:
            prompts: as the user gave them, without a condition or a chat template.
            responses: one for each prompt, as text.

        Raises:
            InputError: a response cannot be scored; the message names the number of its prompt, from 1.
        """
        ...
