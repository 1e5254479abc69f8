"""What an annotator is: something that judges the responses of examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trueup.feedback.groups import Discarded
from trueup.feedback.records import Content, Example


@dataclass(frozen=True, slots=True)
class Annotated:
    """What an annotator made of examples."""

    examples: tuple[Example | Discarded, ...]
    """In the order given: the example with scores on its responses or with comparisons; or why it has neither. An
    example of which only some verdicts could be read keeps those."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What it took, as sums: `verdicts` asked for, `unreadable`, `cached`, `requests`, `tokens`, `cost`, ..."""


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
