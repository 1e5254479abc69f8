"""Scores with the KL penalty taken off, for each token and for each response.

The penalty is beta times the plain log-ratio of the tokens that were written, the estimator called k1: its mean is
the KL divergence, and it is the one whose expected gradient in the reward is that of the KL divergence.

Shape suffixes: N rows (responses), S scored tokens of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trueup.objectives.advantages.ragged import last_tokens, row_sums
from trueup.objectives.rollout import Round


@dataclass(frozen=True, slots=True)
class Penalised:
    """What a round's responses earned."""

    beta: float
    """Reward taken off per nat of log-ratio."""
    score_N: Tensor
    """[N] float64, the scores as they go into the reward."""
    log_ratio_S: Tensor
    """[S] float64, log pi_old - log pi_ref of each token, in nats."""
    kl_N: Tensor
    """[N] its sum over each response."""
    length_N: Tensor

    @property
    def reward_S(self) -> Tensor:
        """[S] -beta (log pi_old - log pi_ref) for every token, and the score for the last of each response."""
        reward_S = -self.beta * self.log_ratio_S
        return reward_S.index_add(0, last_tokens(self.length_N), self.score_N)

    @property
    def reward_N(self) -> Tensor:
        """[N] the same summed: score - beta log(pi_old / pi_ref)(y | x)."""
        return self.score_N - self.beta * self.kl_N


def penalised(given: Round, score_N: Tensor, beta: float) -> Penalised:
    """A round's rewards.

    Args:
        score_N: [N] what goes into the reward of each response.
        beta: strength of the penalty, in reward per nat.
    """
    assert given.reference is not None  # a method with a penalty has a reference
    length_N = given.log_probs.length_N
    log_ratio_S = given.log_probs.token_S.double() - given.reference.token_S.double()
    return Penalised(beta, score_N, log_ratio_S, row_sums(log_ratio_S, length_N), length_N)


def with_ends(given: Round, missing_end_penalty: float) -> Tensor:
    """[N] the scores, less a penalty where a response ran out of tokens before its end."""
    return given.score_N - missing_end_penalty * (~given.ended_N).to(given.score_N.dtype)


def metrics(given: Round, earned: Penalised) -> dict[str, float]:
    """What is told of every round, under the names people chart."""
    kl = earned.kl_N.mean().item()
    return {
        "objective/kl": kl,
        "objective/kl_coef": earned.beta,
        "objective/scores": given.score_N.mean().item(),
        "objective/non_score_reward": -earned.beta * kl,
        "objective/rlhf_reward": earned.reward_N.mean().item(),
        "objective/entropy": -given.log_probs.token_S.double().mean().item(),
    }


def values_of(given: Round) -> Tensor:
    """[S] float64, what the value head said."""
    assert given.log_probs.value_S is not None  # the method reads values
    return given.log_probs.value_S.to(torch.float64)
