"""What feedback looks like in numbers: how much there is for each kind of method, lengths, labels, scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.feedback import views
from trueup.feedback.groups import Discarded, View, units_of
from trueup.feedback.records import Content, Example
from trueup.inspection.judgements import judged_pairs

VIEWS: Mapping[str, View[Any]] = {
    "pairs": views.pairs,
    "rankings": views.rankings,
    "points": views.points,
    "demonstrations": views.demonstrations,
}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a view makes of the examples."""

    units: int
    """How many pairs, rankings, points or demonstrations."""
    examples: int
    """How many examples they come from."""
    discarded: Mapping[str, int]
    """Why the others give none -> how many."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Numbers in brief."""

    count: int
    mean: float
    minimum: float
    quantiles: tuple[float, ...]
    """At `QUANTILES`, interpolated."""
    maximum: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long the texts of one example are, in characters or tokens."""

    prompt: int
    responses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LengthTable:
    """Lengths by what a text is; a response that wins some pairs and loses others counts on both sides."""

    unit: str
    """`characters` or `tokens`."""
    kinds: Mapping[str, tuple[int, ...]]
    """`prompts`, `chosen`, `rejected`, `other responses` -> lengths; no kind is empty."""
    longer: int
    """Pairs whose chosen response is the longer one."""
    equal: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Labels:
    """How many responses are labelled how."""

    good: int
    """Above 0.5."""
    bad: int
    """Below 0.5."""
    middle: int
    """Exactly 0.5."""
    graded: int
    """Those of all three that are neither 0 nor 1."""


def seen_by_views(examples: Sequence[Example]) -> dict[str, Seen]:
    """What each kind of method would find."""
    return {name: _seen(view, name, examples) for name, view in VIEWS.items()}


def _seen(view: View[Any], name: str, examples: Sequence[Example]) -> Seen:
    units = used = 0
    reasons: Counter[str] = Counter()
    for example in examples:
        made = view(example)
        if isinstance(made, Discarded):
            reasons[made.reason] += 1
            continue
        used += 1
        units += sum(units_of(made).values())
    return Seen(units, used, dict(reasons))


def characters(content: Content) -> int:
    """How long what somebody wrote is, without what a chat template adds."""
    return len(content) if isinstance(content, str) else sum(len(one.content) for one in content)


def character_lengths(example: Example) -> Lengths:
    """The lengths of an example in characters."""
    return Lengths(
        characters(example.prompt.content),
        tuple(characters(response.content) for response in example.responses),
    )


def length_table(
    unit: str, examples: Sequence[Example], lengths: Sequence[Lengths | None]
) -> LengthTable | None:
    """Lengths of all texts of the examples; None where there are none.

    Args:
        lengths: of each example; None for one that has none and is left out.
    """
    kinds: dict[str, list[int]] = {"prompts": [], "chosen": [], "rejected": [], "other responses": []}
    longer = equal = pairs = 0
    for example, length in zip(examples, lengths, strict=True):
        if length is None:
            continue
        judged = judged_pairs(example)
        better, worse = {pair[0] for pair in judged}, {pair[1] for pair in judged}
        kinds["prompts"].append(length.prompt)
        for at, number in enumerate(length.responses):
            kinds["chosen"] += [number] if at in better else []
            kinds["rejected"] += [number] if at in worse else []
            kinds["other responses"] += [number] if at not in better | worse else []
        pairs += len(judged)
        longer += sum(length.responses[good] > length.responses[bad] for good, bad in judged)
        equal += sum(length.responses[good] == length.responses[bad] for good, bad in judged)
    found = {kind: tuple(numbers) for kind, numbers in kinds.items() if numbers}
    return LengthTable(unit, found, longer, equal, pairs) if found else None


def distribution(values: Sequence[float]) -> Distribution | None:
    """Numbers in brief; None where there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return Distribution(
        count=len(ordered),
        mean=sum(ordered) / len(ordered),
        minimum=ordered[0],
        quantiles=tuple(_quantile(ordered, part) for part in QUANTILES),
        maximum=ordered[-1],
    )


def _quantile(ordered: Sequence[float], part: float) -> float:
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def bins(lengths: Sequence[int]) -> dict[tuple[int, int], int]:
    """(first, last) length of a bin -> how many; 0, 1, 2-3, 4-7, 8-15, ..., without empty bins at either end."""
    counts = Counter(number.bit_length() for number in lengths)
    return {
        (2**power // 2, max(2**power - 1, 0)): counts[power] for power in range(min(counts), max(counts) + 1)
    }


def label_counts(examples: Sequence[Example]) -> Labels | None:
    """How labels are spread; None where there are none."""
    labels = [one.label for example in examples for one in example.responses if one.label is not None]
    if not labels:
        return None
    good, bad = sum(value > 0.5 for value in labels), sum(value < 0.5 for value in labels)
    return Labels(good, bad, len(labels) - good - bad, sum(value not in (0, 1) for value in labels))


def score_distribution(examples: Sequence[Example]) -> Distribution | None:
    """How scores are spread; None where there are none."""
    return distribution(
        [one.score for example in examples for one in example.responses if one.score is not None]
    )
