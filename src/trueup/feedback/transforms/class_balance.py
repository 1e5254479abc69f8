"""How desirable and undesirable responses are weighed against each other, checked on all of the training data."""

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.errors import InputError
from trueup.feedback import views
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example
from trueup.feedback.transforms.transform import Fitted

LOW, HIGH = 1.0, 4 / 3
"""The range in which (desirable_weight n_D) / (undesirable_weight n_U) should lie, as KTO's authors advise
(Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306, section 4.2)."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class ClassBalance:
    """Changes nothing; counts the classes, and warns where their weights leave the recommended range."""

    desirable_weight: float
    undesirable_weight: float

    rewrites = False

    def fit(self, examples: Sequence[Example]) -> Fitted:
        made = [made for example in examples if not isinstance(made := views.points(example), Discarded)]
        labels = [label for group in made for label in group.relation.labels]
        good = sum(labels)
        bad = len(labels) - good
        if labels and not (good and bad):
            raise InputError(
                f"all {len(labels)} labels are {labels[0]:g}: there is no {'un' * (not bad)}desirable response to "
                "learn from. Give feedback of both kinds, or choose a method for demonstrations (`trueup methods`)"
            )
        lines = [f"labels: {good:g} desirable, {bad:g} undesirable"] if labels else []
        return Fitted(list, tuple(lines), tuple(self.advice(good, bad) if labels else ()))

    def advice(self, good: float, bad: float) -> list[str]:
        """A warning where the ratio of the weighted classes is out of range."""
        ratio = self.desirable_weight * good / (self.undesirable_weight * bad)
        if LOW - ROUNDING <= ratio <= HIGH + ROUNDING:
            return []
        if ratio > HIGH:
            setting, low, high = "undesirable-weight", ratio / HIGH, ratio / LOW
            scale = self.undesirable_weight
        else:
            setting, low, high = "desirable-weight", LOW / ratio, HIGH / ratio
            scale = self.desirable_weight
        return [
            f"desirable responses weigh {ratio:.3g} times the undesirable ones; from 1 to 4/3 is advised. "
            f"Set --{setting} between {scale * low:.3g} and {scale * high:.3g}"
        ]
