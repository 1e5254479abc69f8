"""What feedback looks like in numbers: how much there is for each kind of method, lengths, labels, scores."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trueup.feedback import records, views

VIEWS: Sequence[records.View[Any]] = (views.pairs, views.rankings, views.points, views.demonstrations)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
KINDS = ("prompts", "chosen", "rejected", "other_responses")


@dataclass(frozen=True, slots=True)
class Seen:
    units: int
    examples: int
    discarded: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Distribution:
    count: int
    mean: float
    minimum: float
    quantiles: Mapping[str, float]
    maximum: float


@dataclass(frozen=True, slots=True)
class Lengths:
    prompt: int
    responses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LongerChosen:
    pairs: int
    longer: int
    """Pairs whose chosen response is the longer one."""
    equal: int


@dataclass(frozen=True, slots=True)
class Labels:
    """How many responses are labelled above, below and exactly 0.5."""

    good: int
    bad: int
    middle: int
    graded: int


def seen_by_views(examples: Sequence[records.Example]) -> dict[str, Seen]:
    found = {}
    for made in (views.look(view, examples) for view in VIEWS):
        reasons = {reason: len(where) for reason, where in made.discarded.items()}
        found[made.view] = Seen(sum(made.units.values()), len(made.groups), reasons)
    return found


def characters(content: records.Content) -> int:
    """How long a text as it was written is, without what a chat template adds."""
    return len(content) if isinstance(content, str) else sum(len(one.content) for one in content)


def character_lengths(example: records.Example) -> Lengths:
    responses = (characters(response.content) for response in example.responses)
    return Lengths(characters(example.prompt.content), tuple(responses))


def lengths_by_kind(
    examples: Sequence[records.Example], lengths: Sequence[Lengths | None]
) -> tuple[dict[str, list[int]], LongerChosen]:
    """Lengths of all texts by what they are, and how they go with preferences; each side of a pair counts."""
    kinds: dict[str, list[int]] = {kind: [] for kind in KINDS}
    longer = equal = pairs = 0
    for example, length in zip(examples, lengths, strict=True):
        if length is None:
            continue
        judged = views.judged_pairs(example)
        better, worse = {pair[0] for pair in judged}, {pair[1] for pair in judged}
        kinds["prompts"].append(length.prompt)
        for at, number in enumerate(length.responses):
            kinds["chosen"] += [number] if at in better else []
            kinds["rejected"] += [number] if at in worse else []
            kinds["other_responses"] += [number] if at not in better | worse else []
        pairs += len(judged)
        longer += sum(length.responses[good] > length.responses[bad] for good, bad in judged)
        equal += sum(length.responses[good] == length.responses[bad] for good, bad in judged)
    found = {kind: numbers for kind, numbers in kinds.items() if numbers}
    return found, LongerChosen(pairs, longer, equal)


def length_table(unit: str, kinds: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    table: dict[str, Any] = {"unit": unit}
    for kind, numbers in kinds.items():
        brief = distribution(numbers)
        assert brief is not None
        counts = bins(numbers).items()
        histogram = [{"from": first, "to": last, "count": count} for (first, last), count in counts]
        table[kind] = {**asdict(brief), "histogram": histogram}
    return table if kinds else None


def distribution(values: Sequence[float]) -> Distribution | None:
    if not values:
        return None
    # Of one number alone there are no quantiles but itself.
    cuts = statistics.quantiles([*values, *values[: len(values) == 1]], n=20, method="inclusive")
    return Distribution(
        count=len(values),
        mean=statistics.fmean(values),
        minimum=min(values),
        quantiles={str(part): cuts[round(20 * part) - 1] for part in QUANTILES},
        maximum=max(values),
    )


def bins(lengths: Sequence[int]) -> dict[tuple[int, int], int]:
    """(first, last) length of a bin -> how many; 0, 1, 2-3, 4-7, 8-15, ..., without empty bins at either end."""
    counts = Counter(number.bit_length() for number in lengths)
    powers = range(min(counts), max(counts) + 1)
    return {(2**power // 2, max(2**power - 1, 0)): counts[power] for power in powers}


def label_counts(examples: Sequence[records.Example]) -> Labels | None:
    labels = [one.label for example in examples for one in example.responses if one.label is not None]
    if not labels:
        return None
    good, bad = sum(value > 0.5 for value in labels), sum(value < 0.5 for value in labels)
    return Labels(good, bad, len(labels) - good - bad, sum(value not in (0, 1) for value in labels))
