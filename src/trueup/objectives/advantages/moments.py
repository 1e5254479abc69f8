"""Mean and spread of all values seen so far. Chan, Golub and LeVeque, 1983, The American Statistician 37(3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Moments:
    """Of `count` values: their mean, and the sum of their squared differences from it."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def std(self) -> float:
        """Standard deviation, with n - 1; 0 of fewer than two values."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0

    def with_values(self, values_N: Tensor) -> Moments:
        """The moments of the values so far and these."""
        mean, new = values_N.mean().item(), float(values_N.numel())
        count, apart = self.count + new, mean - self.mean
        squares = ((values_N - mean) ** 2).sum().item() + apart**2 * self.count * new / count
        return Moments(count, self.mean + apart * new / count, self.squares + squares)

    def to_memory(self, name: str) -> dict[str, float]:
        """As numbers to keep between rounds."""
        return {f"{name}_count": self.count, f"{name}_mean": self.mean, f"{name}_squares": self.squares}

    @classmethod
    def from_memory(cls, memory: Mapping[str, float], name: str) -> Moments:
        """What `to_memory` kept; none yet where it kept nothing."""
        return cls(*(memory.get(f"{name}_{part}", 0.0) for part in ("count", "mean", "squares")))
