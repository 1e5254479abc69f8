"""Classes of groups that every batch should hold its share of."""

from trueup.feedback.groups import PointRelation


def by_label(relation: PointRelation) -> str:
    """Whether the responses of a group are desirable, undesirable, or some of both."""
    good = sum(label > 0.5 for label in relation.labels)
    return "desirable" if good == len(relation.labels) else "mixed" if good else "undesirable"
