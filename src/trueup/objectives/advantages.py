"""The arithmetic of advantages: pure functions in float64 on tokens that lie one row after the other.

Shape suffixes: N rows (responses), S scored tokens of all rows, every row with one at least, L tokens of the longest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

EPSILON = 1e-8
"""Added to the variance: values that are all the same have none."""
STEP = 0.2
"""Relative error of the KL divergence beyond which its controller moves no faster."""


def advantages(
    reward_S: Tensor, value_S: Tensor, length_N: Tensor, *, gamma: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimation. Schulman et al., 2016, https://arxiv.org/abs/1506.02438, Eq. 16.

    A_t = sum over l of (gamma lambda)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t. The end of a response is
    worth nothing: V is 0 after its last token, whether the policy ended it or it ran out of tokens.

    Args:
        reward_S: reward for each token.
        value_S: expected sum of rewards from each token on, known before it is written.
        length_N: tokens of each row.
        gamma: discount of later rewards, in [0, 1].
        gae_lambda: 0 trusts the next value, 1 only what was seen, in [0, 1].

    Returns:
        [S]; with values of 0 and lambda 1 the discounted sums of rewards themselves.
    """
    # The columns beyond the end of a row are its end: reward 0, value 0.
    lengths = length_N.tolist()
    reward_NL = pad_sequence(list(reward_S.split(lengths)), batch_first=True)
    value_NL = pad_sequence(list(value_S.split(lengths)), batch_first=True)
    found_NL = torch.zeros_like(reward_NL)
    later_N = torch.zeros_like(reward_NL[:, 0])
    next_value_N = later_N
    for place in reversed(range(reward_NL.shape[1])):
        delta_N = reward_NL[:, place] + gamma * next_value_N - value_NL[:, place]
        later_N = delta_N + gamma * gae_lambda * later_N
        next_value_N = value_NL[:, place]
        found_NL[:, place] = later_N
    column_L = torch.arange(reward_NL.shape[1], device=length_N.device)
    return found_NL[column_L[None] < length_N[:, None]]


def returns(reward_S: Tensor, length_N: Tensor, *, gamma: float) -> Tensor:
    """[S] Z_t = r_t + gamma r_{t+1} + ...: what came of each token."""
    return advantages(reward_S, torch.zeros_like(reward_S), length_N, gamma=gamma, gae_lambda=1.0)


def spread(values_N: Tensor, length_N: Tensor) -> Tensor:
    """[S] each row's value for every token of it."""
    return values_N.repeat_interleave(length_N)


def last_tokens(length_N: Tensor) -> Tensor:
    """[N] place of each row's last token."""
    return length_N.cumsum(0) - 1


def whiten(values: Tensor, *, shift: bool = True) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-8) over all values; where `shift` is off the mean is put back."""
    mean = values.mean()
    scaled = (values - mean) * (values.var(correction=0) + EPSILON).rsqrt()
    return scaled if shift else scaled + mean


def over_the_others(reward_N: Tensor, group_N: Tensor) -> Tensor:
    """[N] R_i - (sum of the group's R - R_i) / (K - 1). Kool et al., 2019; Ahmadian et al., 2024, arXiv 2402.14740."""
    groups = int(group_N.max()) + 1
    sum_G = reward_N.new_zeros(groups).index_add(0, group_N, reward_N)
    count_N = group_N.bincount(minlength=groups)[group_N]
    assert (count_N > 1).all()  # the view sees to that
    return reward_N - (sum_G[group_N] - reward_N) / (count_N - 1)


@dataclass(frozen=True, slots=True)
class Moments:
    """Of `count` values: their mean, and the sum of their squared differences from it.

    Chan, Golub and LeVeque, 1983, The American Statistician 37(3).
    """

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


@dataclass(frozen=True, slots=True)
class KLControl:
    """beta <- beta (1 + clip(KL / target - 1, -0.2, 0.2) n / horizon) after every round of n responses.

    How strong the KL penalty in the reward is. Ziegler et al., 2019, https://arxiv.org/abs/1909.08593, section 2.2.
    """

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
