"""What labels of all of the training data say together, checked before a run for the methods that learn from them."""

import logging
from collections.abc import Sequence

from trueup.display import data_logger
from trueup.errors import InputError
from trueup.feedback import views
from trueup.feedback.records import Discarded, Example

logger = logging.getLogger(__name__)

LOW, HIGH = 1.0, 4 / 3
"""The range in which (desirable_weight n_D) / (undesirable_weight n_U) should lie, as KTO's authors advise
(Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306, section 4.2)."""
ROUNDING = 1e-9


def check_class_balance(
    examples: Sequence[Example], *, desirable_weight: float, undesirable_weight: float
) -> None:
    """Tell how many responses are desirable and undesirable; warn where their weights leave the recommended range.

    Raises:
        InputError: all labels are the same.
    """
    labels = labels_of(examples)
    if not labels:
        return
    good = sum(labels)
    bad = len(labels) - good
    if not (good and bad):
        raise InputError(
            f"all {len(labels)} labels are {labels[0]:g}: there is no {'un' * (not bad)}desirable response to "
            "learn from. Give feedback of both kinds, or choose a method for demonstrations (`trueup methods`)"
        )
    data_logger.info(f"labels: {good:g} desirable, {bad:g} undesirable")
    ratio = desirable_weight * good / (undesirable_weight * bad)
    if LOW - ROUNDING <= ratio <= HIGH + ROUNDING:
        return
    if ratio > HIGH:
        setting, low, high = "undesirable-weight", ratio / HIGH, ratio / LOW
        scale = undesirable_weight
    else:
        setting, low, high = "desirable-weight", LOW / ratio, HIGH / ratio
        scale = desirable_weight
    logger.warning(
        f"desirable responses weigh {ratio:.3g} times the undesirable ones; from 1 to 4/3 is advised. "
        f"Set --{setting} between {scale * low:.3g} and {scale * high:.3g}"
    )


def check_classes(examples: Sequence[Example]) -> None:
    """Warn where all labels, those of demonstrations among them, are the same.

    For methods that can learn from such labels, though hardly what was meant: from good responses alone what
    SFT learns, and from bad ones alone only what to avoid.
    """
    labels = labels_of(examples)
    if len(set(labels)) == 1:
        logger.warning(
            f"all {len(labels)} labels are {labels[0]:g}, so that nothing tells desirable responses from undesirable "
            "ones. Give feedback of both kinds"
        )


def labels_of(examples: Sequence[Example]) -> list[float]:
    """The labels of all points that examples hold."""
    made = [made for example in examples if not isinstance(made := views.points(example), Discarded)]
    return [label for group in made for label in group.relation.labels]
