"""How much feedback of each kind examples hold, for reports and errors."""

from collections.abc import Iterable
from dataclasses import dataclass

from trueup.feedback.records import Example
from trueup.words import counted


@dataclass(frozen=True, slots=True)
class Counts:
    """What was found: `Counts(responses=4, comparisons=2)`."""

    responses: int = 0
    comparisons: int = 0
    scored: int = 0
    """Responses with a score."""
    labelled: int = 0
    """Responses with a label."""
    demonstrations: int = 0
    """Responses to imitate."""

    def words(self) -> str:
        """The kinds that are there: `2 comparisons, 4 scored responses`."""
        kinds = (
            (self.comparisons, "comparison"),
            (self.scored, "scored response"),
            (self.labelled, "labelled response"),
            (self.demonstrations, "demonstration"),
        )
        there = [counted(number, noun) for number, noun in kinds if number]
        if not self.responses:
            return "no examples"
        return ", ".join(there) or f"{counted(self.responses, 'response')} without feedback"


def count(examples: Iterable[Example]) -> Counts:
    """Count the feedback in examples."""
    responses = comparisons = scored = labelled = demonstrations = 0
    for example in examples:
        responses += len(example.responses)
        comparisons += len(example.comparisons)
        scored += sum(one.score is not None for one in example.responses)
        labelled += sum(one.label is not None for one in example.responses)
        demonstrations += sum(one.demonstration for one in example.responses)
    return Counts(responses, comparisons, scored, labelled, demonstrations)
