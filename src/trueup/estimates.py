"""Means and shares with what is known of them: standard errors, intervals, tests, and tests of several at once.
What is resampled or flipped are prompts: responses to one prompt hang together, and two models answer the same ones."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from operator import eq
from statistics import NormalDist, fmean, stdev

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000  # resamples of an interval, and random sign changes of a test
BLOCK = 4_000_000
Values = Sequence[float] | NDArray[np.float64]
CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True)
class Mean:
    """A sample mean and its standard error (nan for a single value)."""

    value: float
    error: float
    count: int

    def shown(self, digits: int) -> str:
        """`1.23 +- 0.05`."""
        error = "" if math.isnan(self.error) else f" +- {self.error:.{digits}f}"
        return f"{self.value:.{digits}f}{error}"

    def as_json(self) -> dict[str, float | None]:
        return {"value": self.value, "standard_error": None if math.isnan(self.error) else self.error}


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


def mean(values: Sequence[float]) -> Mean:
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Mean(fmean(values), error, len(values))


def wilson(successes: float, count: int) -> Interval:
    """A share and Wilson's interval of it (1927, https://doi.org/10.1080/01621459.1927.10502953)."""
    share, shrink = successes / count, 1 + Z**2 / count
    centre = (share + Z**2 / (2 * count)) / shrink
    half = Z / shrink * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(share, low if successes else 0.0, high if successes < count else 1.0)


def bootstrap(values: Values, *, seed: int = 0, share: bool = False) -> Interval:
    """The mean of one value a prompt, and its percentiles over resamples of the prompts (Efron and Tibshirani, 1993).
    Values that are a `share` lie in [0, 1]; where all are equal, the interval is Wilson's."""
    value_N = np.array(values, np.float64)
    if share and value_N.min() == value_N.max():
        return wilson(float(value_N.sum()), len(value_N))
    generator, size = np.random.default_rng(seed), len(value_N)
    places = (generator.integers(size, size=(draws, size)) for draws in _draws_at_a_time(size))
    means = [value_N[place_DN].mean(1) for place_DN in places]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(value_N.mean()), float(low), float(high))


def sign_flip_test(differences: Values, *, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference of 0, by changing the signs at random (Fisher, 1935)."""
    value_N = np.array(differences, np.float64)
    value_N = value_N[value_N != 0]
    if not len(value_N):
        return 1.0
    seen = abs(value_N.sum()) * (1 - 1e-12)  # sums in another order differ in the last digits
    generator, beyond = np.random.default_rng(seed), 0
    for draws in _draws_at_a_time(len(value_N)):
        flipped_DN = generator.integers(2, size=(draws, len(value_N)), dtype=np.int8)
        sum_D = value_N.sum() - 2 * (flipped_DN @ value_N)
        beyond += int((np.abs(sum_D) >= seen).sum())
    return (beyond + 1) / (DRAWS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for being one of several (Holm, 1979, https://www.jstor.org/stable/4615733)."""
    adjusted, most = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = most
    return adjusted


def cohen_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """How far two raters agree beyond chance, 1 at most (Cohen, 1960, https://doi.org/10.1177/001316446002000104).
    Both give their categories of the same items; without an item, or with one category only, it is nan."""
    count = len(one)
    seen = sum(map(eq, one, other))
    first, second = Counter(one), Counter(other)
    chance = sum(number * second[category] for category, number in first.items())
    return (seen * count - chance) / (count * count - chance) if count * count > chance else math.nan


def fleiss_kappa(rated: Sequence[Sequence[Hashable]]) -> float:
    """The same of several raters (Fleiss, 1971, https://doi.org/10.1037/h0031619): the categories of each
    item, equally many of each, two at least; who gave one does not matter."""
    counts = [Counter(one) for one in rated]
    total = sum(counts, Counter())
    number = total.total()
    if not number:
        return math.nan
    each = number / len(rated)
    seen = sum(n * (n - 1) for one in counts for n in one.values()) / (number * (each - 1))
    chance = sum((n / number) ** 2 for n in total.values())
    return (seen - chance) / (1 - chance) if chance < 1 else math.nan


def krippendorff_alpha(rated: Sequence[Sequence[Hashable]]) -> float:
    """The same of any number of raters an item, of categories without an order (Krippendorff, 2011, Computing
    Krippendorff's alpha-reliability, https://repository.upenn.edu/asc_papers/43). Items with fewer than two
    categories say nothing."""
    counts = [Counter(one) for one in rated if len(one) > 1]
    total = sum(counts, Counter())
    number = total.total()
    apart = sum((one.total() ** 2 - sum(n * n for n in one.values())) / (one.total() - 1) for one in counts)
    chance = number**2 - sum(n * n for n in total.values())
    return 1 - (number - 1) * apart / chance if chance else math.nan


def _draws_at_a_time(size: int) -> list[int]:
    most = max(1, BLOCK // size)
    return [min(most, DRAWS - done) for done in range(0, DRAWS, most)]
