"""Scores as thumbs: up from a threshold on, down below it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trueup.errors import InputError
from trueup.feedback.records import Example
from trueup.feedback.transforms.transform import Fitted
from trueup.words import counted


@dataclass(frozen=True, slots=True)
class Thumbs:
    """Gives responses that have a score but no label one: 1 from `threshold` on, 0 below; None leaves them alone."""

    threshold: float | None

    rewrites = True

    def fit(self, examples: Sequence[Example]) -> Fitted:
        if self.threshold is None:
            return Fitted(list)
        made = self.labelled(examples)
        labels = [
            one.label for example, old in zip(made, examples, strict=True)
            for one, before in zip(example.responses, old.responses, strict=True)
            if before.label is None and one.label is not None
        ]  # fmt: skip
        if not labels:
            raise InputError(
                f"desirable_from {self.threshold:g} makes labels of scores, but the feedback holds no scores without a "
                "label. Leave --desirable-from out"
            )
        line = f"labels: {counted(int(sum(labels)), 'score')} of {len(labels)} from {self.threshold:g} on are desirable"
        return Fitted(self.labelled, (line,))

    def labelled(self, examples: Sequence[Example]) -> list[Example]:
        """The examples with thumbs for their scores."""
        threshold = self.threshold
        assert threshold is not None
        return [
            replace(
                example,
                responses=tuple(
                    one
                    if one.label is not None or one.score is None
                    else replace(one, label=float(one.score >= threshold))
                    for one in example.responses
                ),
            )
            for example in examples
        ]
