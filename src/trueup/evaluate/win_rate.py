"""How often one policy's response is better than another's to the same prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.evaluate.mean import Mean, mean


@dataclass(frozen=True, slots=True)
class WinRate:
    """Counts over prompts; a tie is half a win in the rate."""

    wins: int
    ties: int
    losses: int
    rate: Mean


def win_rate(ours: Sequence[float], theirs: Sequence[float]) -> WinRate:
    """Compare scores prompt by prompt.

    Args:
        ours: score of our response to each prompt; higher is better.
        theirs: score of the other policy's response to the same prompts.
    """
    points = [1.0 if a > b else 0.0 if a < b else 0.5 for a, b in zip(ours, theirs, strict=True)]
    return WinRate(points.count(1.0), points.count(0.5), points.count(0.0), mean(points))
