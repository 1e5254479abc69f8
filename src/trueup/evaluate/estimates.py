"""Means with their standard errors, and how often one policy's responses are better than another's."""

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

    def shown(self, digits: int) -> str:
        """`1.23 +- 0.05`."""
        error = "" if math.isnan(self.error) else f" +- {self.error:.{digits}f}"
        return f"{self.value:.{digits}f}{error}"

    def as_json(self) -> dict[str, float | None]:
        """JSON-ready; the standard error of a single value is None."""
        return {"value": self.value, "standard_error": None if math.isnan(self.error) else self.error}


def mean(values: Sequence[float]) -> Mean:
    """Mean of independent values."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Mean(fmean(values), error, len(values))


def win_rate(ours: Sequence[float], theirs: Sequence[float]) -> Mean:
    """How often ours is the better one, prompt by prompt; a tie is half a win.

    Args:
        ours: score of our response to each prompt; higher is better.
        theirs: score of the other policy's response to the same prompts.
    """
    return mean([1.0 if a > b else 0.0 if a < b else 0.5 for a, b in zip(ours, theirs, strict=True)])
