"""Labels that tell no response from another, looked for in all of the training data."""

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.feedback import views
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example
from trueup.feedback.transforms.transform import Fitted


@dataclass(frozen=True, slots=True)
class OneClass:
    """Changes nothing; warns where all labels, those of demonstrations among them, are the same.

    For methods that can learn from such labels, though hardly what was meant: from good responses alone what
    SFT learns, and from bad ones alone only what to avoid.
    """

    rewrites = False

    def fit(self, examples: Sequence[Example]) -> Fitted:
        made = [made for example in examples if not isinstance(made := views.points(example), Discarded)]
        labels = [label for group in made for label in group.relation.labels]
        if len(set(labels)) != 1:
            return Fitted(list)
        warning = (
            f"all {len(labels)} labels are {labels[0]:g}, so that nothing tells desirable responses from undesirable "
            "ones. Give feedback of both kinds"
        )
        return Fitted(list, warnings=(warning,))
