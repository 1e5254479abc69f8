"""What a view makes of an example: a prompt, the responses it uses, and how they relate.

A response is listed once however many relations it stands in, so that it is computed once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from trueup.feedback.records import Content, Example, Origin, Prompt


@dataclass(frozen=True, slots=True)
class PairRelation:
    """Which response was preferred to which."""

    pairs: tuple[tuple[int, int, float], ...]
    """(chosen, rejected, probability), positions among the group's responses."""


@dataclass(frozen=True, slots=True)
class DemonstratedPairRelation:
    """Which response was preferred to which, and a response to imitate beside them."""

    pairs: PairRelation
    demonstration: int
    """Its position among the group's responses; it may stand in pairs too."""


@dataclass(frozen=True, slots=True)
class GradedPairRelation:
    """Which response was preferred to which, and how much better it was found."""

    pairs: PairRelation
    gaps: tuple[float, ...]
    """Of each pair, the difference of the two scores where both have one and it is above 0; else 0."""


@dataclass(frozen=True, slots=True)
class RankRelation:
    """A score per response; higher is better."""

    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PointRelation:
    """A label in [0, 1] per response, and whether it is a demonstration."""

    labels: tuple[float, ...]
    demonstrations: tuple[bool, ...]


def by_label(relation: PointRelation) -> str:
    """A class of groups: whether the responses of one are desirable, undesirable, or some of both."""
    good = sum(label > 0.5 for label in relation.labels)
    return "desirable" if good == len(relation.labels) else "mixed" if good else "undesirable"


@dataclass(frozen=True, slots=True)
class DemonstrationRelation:
    """Responses to imitate; nothing relates them."""


@dataclass(frozen=True, slots=True)
class WeightRelation:
    """How much each response counts, at least 0."""

    weights: tuple[float, ...]


Relation = TypeVar("Relation", covariant=True)


@dataclass(frozen=True, slots=True)
class Group(Generic[Relation]):
    """One prompt, the responses a method uses, and their relation."""

    prompt: Prompt
    responses: tuple[Content, ...]
    relation: Relation
    tokens: tuple[tuple[int, ...] | None, ...] = ()
    """Of each response, the token ids its policy wrote, where they are known; empty where none are."""

    @property
    def origin(self) -> Origin | None:
        """Where the example came from: that of its prompt."""
        return self.prompt.origin


def units_of(group: Group[Relation]) -> dict[str, int]:
    """What a group amounts to, by the kind of its relation."""
    relation = group.relation
    if isinstance(relation, PairRelation):
        return {"pairs": len(relation.pairs)}
    if isinstance(relation, GradedPairRelation):
        return {"pairs": len(relation.pairs.pairs)}
    if isinstance(relation, DemonstratedPairRelation):
        return {"pairs": len(relation.pairs.pairs), "demonstrations": 1}
    if isinstance(relation, RankRelation):
        return {"rankings": 1}
    if isinstance(relation, PointRelation):
        marked = sum(relation.demonstrations)
        units = {"points": len(relation.labels) - marked, "demonstrations": marked}
        return {noun: number for noun, number in units.items() if number}
    if isinstance(relation, WeightRelation):
        return {"weighted responses": len(relation.weights)}
    if isinstance(relation, DemonstrationRelation):
        return {"demonstrations": len(group.responses)}
    return {}


@dataclass(frozen=True, slots=True)
class Discarded:
    """Nothing in an example, or in a row of a file, is of use; it is counted, and the run goes on."""

    reason: str
    """A short noun phrase, the same for every example with this fault: `identical pair`."""
    origin: Origin | None = None


View = Callable[[Example], Group[Relation] | Discarded]
