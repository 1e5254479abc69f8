"""How strong the KL penalty in the reward is. Ziegler et al., 2019, https://arxiv.org/abs/1909.08593, section 2.2."""

from dataclasses import dataclass

STEP = 0.2
"""Relative error of the KL divergence beyond which the controller moves no faster."""


@dataclass(frozen=True, slots=True)
class KLControl:
    """beta <- beta (1 + clip(KL / target - 1, -0.2, 0.2) n / horizon) after every round of n responses."""

    start: float
    """beta of the first round, in reward per nat."""
    target: float | None = None
    """KL divergence of a response to hold, in nats; None leaves beta as it is."""
    horizon: float = 10_000.0
    """Responses over which beta moves by a fifth at most."""

    def after(self, beta: float, kl: float, responses: int) -> float:
        """beta of the next round.

        Args:
            beta: of this round.
            kl: mean log-ratio of this round's responses, in nats.
            responses: how many those are; more than the horizon count as the horizon, so that beta stays above 0.
        """
        if self.target is None:
            return beta
        error = min(max(kl / self.target - 1, -STEP), STEP)
        return beta * (1 + error * min(1.0, responses / self.horizon))
