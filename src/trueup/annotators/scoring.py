"""An annotator that scores each response by itself, by whatever function is at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trueup.annotators.annotator import Annotated, Scorer
from trueup.errors import AnnotatorError, InputError
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Content, Example

NO_TEXT = "a response of several turns is no one text to score"


@dataclass(frozen=True, slots=True)
class ScoringAnnotator:
    """Gives every response a score: `ScoringAnnotator(load_scorer("rewards.py:brevity"), "rewards.py:brevity")`."""

    scorer: Scorer
    name: str

    @property
    def gives(self) -> str:
        return "scores"

    def annotate(self, examples: Sequence[Example]) -> Annotated:
        """Score every response of each example.

        Raises:
            InputError: a response cannot be scored; its example is named.
            AnnotatorError: a score is not a finite number; its example is named.
        """
        made = tuple(self._scored(example) for example in examples)
        scored = sum(len(one.responses) for one in made if isinstance(one, Example))
        return Annotated(made, {"scores": float(scored)})

    def _scored(self, example: Example) -> Example | Discarded:
        texts = [spoken(one.content) for one in example.responses]
        known = [text for text in texts if text is not None]
        if len(known) < len(texts):
            return Discarded(NO_TEXT, example.origin)
        try:
            scores = self.scorer([example.prompt.content] * len(known), known)
        except InputError as error:
            raise InputError(f"{example.origin}: {error}" if example.origin else str(error)) from error
        return with_scores(example, scores, self.name)


def with_scores(example: Example, scores: Sequence[float], name: str) -> Example:
    """The example with these scores; what was said of its responses before goes, but for marks of demonstrations.

    Args:
        scores: one for each response.
        name: of who scored them, for messages.

    Raises:
        AnnotatorError: a score is not a finite number.
    """
    for number, score in enumerate(scores, start=1):
        if not math.isfinite(score):
            where = f"{example.origin}: " if example.origin else ""
            raise AnnotatorError(
                f"{where}{name} gave response {number} the score {score}, which is not a finite number. Mend the "
                "annotator, or leave the example out"
            )
    responses = tuple(
        replace(one, score=float(score), label=None)
        for one, score in zip(example.responses, scores, strict=True)
    )
    return replace(example, responses=responses, comparisons=())


def spoken(response: Content) -> str | None:
    """A response as one text; None where it has several turns, or calls a tool."""
    if isinstance(response, str):
        return response
    (*earlier, last) = response
    return None if earlier or last.extra.get("tool_calls") else last.content
