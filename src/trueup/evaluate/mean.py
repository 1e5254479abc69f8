"""Means with their standard errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, slots=True)
class Mean:
    """A sample mean and its standard error (nan for a single value)."""

    value: float
    error: float
    count: int


def mean(values: Sequence[float]) -> Mean:
    """Mean of independent values."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Mean(fmean(values), error, len(values))
