"""Two verdicts on two responses, one for each order, as one opinion."""

from __future__ import annotations

from dataclasses import dataclass

from trueup.annotators.judge import Unreadable, Verdict


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a judge says of two responses, asked in both orders."""

    forward: Verdict | Unreadable
    """With the first of the two shown first."""
    backward: Verdict | Unreadable
    """With the second of the two shown first."""

    @property
    def first(self) -> float | None:
        """How likely the first of the two is the better one, the mean of both orders; None where one is unreadable.

        Exchanging the two gives exactly 1 minus it, to the last bit, and a judge that goes by the place alone gives
        exactly 0.5.
        """
        if isinstance(self.forward, Unreadable) or isinstance(self.backward, Unreadable):
            return None
        # (forward + 1 - backward) / 2, rounded alike on both sides of a half: 1 - p is exact for p in [0.5, 1].
        surer = 0.5 + abs(self.forward.first - self.backward.first) / 2
        return surer if self.forward.first >= self.backward.first else 1 - surer

    @property
    def flipped(self) -> bool:
        """Whether the judge prefers the same place in both orders, and so another response in each."""
        if isinstance(self.forward, Unreadable) or isinstance(self.backward, Unreadable):
            return False
        return min(self.forward.first, self.backward.first) > 0.5 or (
            max(self.forward.first, self.backward.first) < 0.5
        )
