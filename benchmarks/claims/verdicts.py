"""What the values of several seeds say of a claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

import scipy.stats

from trueup.estimates import bootstrap

Found = Mapping[str, Any]
"""What was measured of a run."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of several seeds: mean, median, and Student's interval of the mean, which holds it 95 times of 100. (The
    percentiles of a bootstrap of five values hold it four times of five.)"""

    mean: float
    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    centre, half = fmean(values), math.inf
    if len(values) > 1:
        quantile = float(scipy.stats.t.ppf(0.975, len(values) - 1))
        half = quantile * stdev(values) / math.sqrt(len(values))
    return Spread(centre, median(values), centre - half, centre + half)


def verdict(difference: Spread, within: float | None) -> str:
    """What the interval of a difference says of a claim that it is above 0; or no more than so much either way."""
    low, high = difference.low, difference.high
    if within is not None:
        if -within <= low and high <= within:
            return "holds"
        if low > within:
            return "does not hold here: better"
        return "does not hold here: worse" if high < -within else "not decided"
    if low > 0:
        return "holds"
    return "does not hold here: the other way round" if high < 0 else "does not hold here: no difference seen"


def wins(ones: Sequence[Found], others: Sequence[Found]) -> list[float] | None:
    """By prompt, over seeds, how often the one's response is better; a tie is half. Then low and high of the mean."""
    if not all("golds" in run for run in (*ones, *others)):
        return None
    by_seed = [
        [float(a > b) + (a == b) / 2 for a, b in zip(one["golds"], other["golds"], strict=True)]
        for one, other in zip(ones, others, strict=True)
    ]
    found = bootstrap([fmean(prompt) for prompt in zip(*by_seed, strict=True)], share=True)
    return [found.value, found.low, found.high]
