"""The one record of feedback: what was observed, once, in text; and what a view makes of it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from trueup.words import counted


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: `Message("user", "Name three fruits.")`."""

    role: str
    content: str
    extra: Mapping[str, object] = field(default_factory=dict)
    """Further keys the chat template may read (`name`, `tool_calls`, ...), calls in one form, all else untouched."""


Content = str | tuple[Message, ...]

Tools = tuple[Mapping[str, object], ...]
"""JSON schemas of the tools an assistant may call: `({"type": "function", "function": {"name": "add"}},)`."""


@dataclass(frozen=True, slots=True)
class Origin:
    file: str
    row: int
    """1-based: the line of a JSONL file, the item of a JSON array, the example of a generator."""

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Something to ask a model, with all that belongs to it whoever answers: `Prompt("2 + 2 =")`."""

    content: Content
    tools: Tools = ()
    """What the assistant may call, for the chat template of a conversation."""
    origin: Origin | None = None
    rubric: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    """Criteria of this prompt's own: what a response has to be, and its weight; below 0 for what it must not be."""

    @property
    def key(self) -> str:
        """What can be looked up, and is equal for prompts that are the same to the letter, wherever they come from."""
        own = f" {self.rubric}" if self.rubric else ""  # seeds and caches without one are what they were
        return f"{replace(self, origin=None)!r}{own}"


@dataclass(frozen=True, slots=True)
class Response:
    """A response and what was said of it: `Response("Apples, pears, plums.", score=0.8, source="policy-a")`."""

    content: Content
    score: float | None = None
    """Any finite real number; higher is better, comparable within one example."""
    label: float | None = None
    """Desirability in [0, 1]; 1 and 0 are a thumb up and a thumb down."""
    demonstration: bool = False
    source: str | None = None
    tokens: tuple[int, ...] | None = None
    """Token ids as a policy wrote them, with the end of sequence where it wrote one; None where only the text is
    known. They are trained on as they are wherever they spell the content in the tokenizer at hand."""

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"a score must be a finite number; got {self.score}")
        if self.label is not None and not 0 <= self.label <= 1:
            raise ValueError(f"a label must lie in [0, 1]; got {self.label}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Response `better` was preferred to response `worse` (positions in the example)."""

    better: int
    worse: int
    probability: float = 1.0
    """How sure the judgement is, in (0.5, 1]; 1 is a plain preference."""

    def __post_init__(self) -> None:
        if self.better == self.worse:
            raise ValueError(f"a response cannot be preferred to itself; got position {self.better} twice")
        if not 0.5 < self.probability <= 1:
            raise ValueError(f"a comparison's probability must lie in (0.5, 1]; got {self.probability}")


@dataclass(frozen=True, slots=True)
class Vote:
    """What one person or judge said of two responses that were shown in this order: `Vote(1, 0, "first", "ann")`."""

    first: int
    second: int
    preferred: str
    """One of `VERDICTS`; `neither` where both are bad."""
    annotator: str

    def __post_init__(self) -> None:
        if self.first == self.second or self.preferred not in VERDICTS:
            kinds = ", ".join(VERDICTS)
            given = f"{self.first}, {self.second} and {self.preferred!r}"
            raise ValueError(f"a vote is on two responses and prefers one of {kinds}; got {given}")


VERDICTS = ("first", "second", "tie", "neither")


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, K >= 1 responses, and everything observed about them.
    `Example(Prompt("2 + 2 ="), (Response("4"), Response("5")), (Comparison(better=0, worse=1),))`"""

    prompt: Prompt
    responses: tuple[Response, ...]
    comparisons: tuple[Comparison, ...] = ()
    votes: tuple[Vote, ...] = ()
    """Of whom the comparisons are, in the order given; views do not look at them."""

    def __post_init__(self) -> None:
        if not self.responses:
            raise ValueError("an example needs at least one response; got none")
        ends = [("comparison", at) for one in self.comparisons for at in (one.better, one.worse)]
        ends += [("vote", at) for one in self.votes for at in (one.first, one.second)]
        for noun, position in ends:
            if not 0 <= position < len(self.responses):
                number = f"{len(self.responses)} (positions count from 0)"
                raise ValueError(f"a {noun} names response {position}, but the example has {number}")

    @property
    def origin(self) -> Origin | None:
        return self.prompt.origin


@dataclass(frozen=True, slots=True)
class Counts:
    """What was found: `Counts(responses=4, comparisons=2)`."""

    responses: int = 0
    comparisons: int = 0
    scored: int = 0
    labelled: int = 0
    demonstrations: int = 0

    def words(self) -> str:
        kinds = {"comparison": self.comparisons, "scored response": self.scored}
        kinds |= {"labelled response": self.labelled, "demonstration": self.demonstrations}
        there = ", ".join(counted(number, noun) for noun, number in kinds.items() if number)
        if not self.responses:
            return "no examples"
        return there or f"{counted(self.responses, 'response')} without feedback"


def count(examples: Iterable[Example]) -> Counts:
    comparisons, responses = 0, list[Response]()
    for example in examples:
        comparisons += len(example.comparisons)
        responses += example.responses
    scored = sum(one.score is not None for one in responses)
    labelled = sum(one.label is not None for one in responses)
    return Counts(len(responses), comparisons, scored, labelled, sum(one.demonstration for one in responses))


def scores_of(examples: Iterable[Example]) -> list[float]:
    return [one.score for example in examples for one in example.responses if one.score is not None]


def content_key(content: Content) -> object:
    if isinstance(content, str):
        return content
    return tuple((message.role, message.content, repr(message.extra)) for message in content)


# How the responses of one example stand to each other.

Value = tuple[int, float]


def distinct(example: Example) -> list[Comparison]:
    contents = [response.content for response in example.responses]
    return [one for one in example.comparisons if contents[one.better] != contents[one.worse]]


def agreed(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons without those that are also there the other way round."""
    said = {(one.better, one.worse) for one in comparisons}
    return [one for one in comparisons if (one.worse, one.better) not in said]


def beaten(comparisons: Sequence[Comparison]) -> dict[int, set[int]]:
    """For each response that stands in a comparison, all those that it beats, directly or through others."""
    below: dict[int, set[int]] = {}
    for one in comparisons:
        below.setdefault(one.better, set()).add(one.worse)
        below.setdefault(one.worse, set())
    changed = True
    while changed:
        changed = False
        for under in below.values():
            reached = under.union(*(below[position] for position in under))
            changed = changed or len(reached) > len(under)
            under |= reached
    return below


def wins(comparisons: Sequence[Comparison]) -> dict[int, list[float]]:
    """For each response that stands in a comparison, how surely it was preferred in each of them."""
    found: dict[int, list[float]] = {}
    for one in comparisons:
        found.setdefault(one.better, []).append(one.probability)
        found.setdefault(one.worse, []).append(1 - one.probability)
    return found


def clear_wins(example: Example) -> list[Value]:
    """Of responses always chosen or always rejected: 1 or 0, or the mean of the probabilities or their rests."""
    found = wins(distinct(example))
    clear = {at: sure for at, sure in found.items() if min(sure) > 0.5 or max(sure) < 0.5}
    return [(at, sum(sure) / len(sure)) for at, sure in sorted(clear.items())]


def scores(example: Example) -> list[Value]:
    return [(at, one.score) for at, one in enumerate(example.responses) if one.score is not None]


def labels(example: Example) -> list[Value]:
    return [(at, one.label) for at, one in enumerate(example.responses) if one.label is not None]


def contradicts_scores(example: Example) -> bool:
    """Whether a comparison, not contradicted by another, prefers the response with the lower score or label."""
    responses = example.responses
    pairs = [(responses[one.better], responses[one.worse]) for one in agreed(distinct(example))]
    said = [(better.score, worse.score) for better, worse in pairs]
    said += [(better.label, worse.label) for better, worse in pairs]
    return any(high is not None and low is not None and high < low for high, low in said)


def agreement_of_people(examples: Iterable[Example]) -> str | None:
    """For people: who voted on how many pairs, and how far they agree, each by what they first said."""
    said: dict[tuple[int, ...], dict[str, object]] = {}
    for at, example in enumerate(examples):
        for vote in example.votes:
            sides = {"first": vote.first, "second": vote.second}
            winner = sides.get(vote.preferred)
            category = vote.preferred if winner is None else winner == min(sides.values())
            said.setdefault((at, *sorted(sides.values())), {}).setdefault(vote.annotator, category)
    if not said:
        return None
    from trueup.estimates import krippendorff_alpha  # which loads numpy

    names = {name for own in said.values() for name in own}
    shared = [list(own.values()) for own in said.values() if len(own) > 1]
    alpha = krippendorff_alpha(shared)
    known = "" if alpha != alpha else f", Krippendorff's alpha {alpha:.2f}"
    people = "1 person" if len(names) == 1 else f"{len(names)} people"
    return f"votes of {people} on {counted(len(said), 'pair')}, {len(shared)} judged by several{known}"


# What a view makes of an example: a prompt, the responses it uses, and how they relate. A response is listed once
# however many relations it stands in, so that it is computed once.


@dataclass(frozen=True, slots=True)
class PairRelation:
    pairs: tuple[tuple[int, int, float], ...]
    """(chosen, rejected, probability), positions among the group's responses."""


@dataclass(frozen=True, slots=True)
class DemonstratedPairRelation:
    pairs: PairRelation
    demonstration: int
    """Its position among the group's responses; it may stand in pairs too."""


@dataclass(frozen=True, slots=True)
class GradedPairRelation:
    pairs: PairRelation
    gaps: tuple[float, ...]
    """Of each pair, the difference of the two scores where both have one and it is above 0; else 0."""


@dataclass(frozen=True, slots=True)
class RankRelation:
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PointRelation:
    """A label in [0, 1] per response, and whether it is a demonstration."""

    labels: tuple[float, ...]
    demonstrations: tuple[bool, ...]


def by_label(relation: PointRelation) -> str:
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
        return self.prompt.origin


@dataclass(frozen=True, slots=True)
class Discarded:
    """Nothing in an example, or in a row of a file, is of use; it is counted, and the run goes on."""

    reason: str
    """A short noun phrase, the same for every example with this fault: `identical pair`."""
    origin: Origin | None = None


View = Callable[[Example], Group[Relation] | Discarded]
