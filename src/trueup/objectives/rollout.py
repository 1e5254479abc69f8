"""How a round of responses becomes something to learn from: rewards, advantages, value targets.

Pure functions of what policy, value head and reference say of the round's responses; the source computes those
(`trueup.sources.rollouts`), so that the result does not depend on how the round was cut for computing it.

The KL penalty is beta times the plain log-ratio of the tokens that were written, the estimator called k1: its mean is
the KL divergence, and it is the one whose expected gradient in the reward is that of the KL divergence.

Shape suffixes: N rows (responses), S scored tokens of all rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from trueup.batch.rows import LogProbs, row_sums
from trueup.objectives.advantages import (
    KLControl,
    Moments,
    advantages,
    last_tokens,
    over_the_others,
    returns,
    spread,
    whiten,
)


@dataclass(frozen=True, slots=True)
class Round:
    """A round of responses, before anything was learned from them."""

    log_probs: LogProbs
    """Under the policy that wrote them, with values where the method has a value head; no gradients."""
    reference: LogProbs | None
    """Under the reference; None without one."""
    score_N: Tensor
    """[N] float64, what the annotator said of each response."""
    group_N: Tensor
    """[N] int64, which prompt each answers, counted from 0."""
    ended_N: Tensor
    """[N] bool, False where a response ran out of tokens."""


@dataclass(frozen=True, slots=True)
class Learnable:
    """What a method makes of a round."""

    advantage_S: Tensor
    """[S] float32."""
    target_S: Tensor
    """[S] float32, what the value head is to predict; zeros without one."""
    metrics: Mapping[str, float]
    """Of the round, such as `objective/kl` and `objective/rlhf_reward`."""
    memory: Mapping[str, float] = field(default_factory=dict)
    """What the next round has to know: the KL coefficient, running moments of the reward. JSON-ready."""


class Rollout(Protocol):
    """Makes a round learnable."""

    def __call__(self, given: Round, memory: Mapping[str, float]) -> Learnable:
        """Rewards, advantages and targets.

        Args:
            memory: what the round before left; empty at the first.
        """
        ...


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


@dataclass(frozen=True, slots=True)
class ValueBaseline:
    """Z_t - V_t, Z_t = r_t + gamma r_{t+1} + ..., r_t = -beta log(pi_old / pi_ref)(y_t) + [t is the last] score.

    Williams, 1992; as in Lee et al., 2023, https://arxiv.org/abs/2309.00267.
    """

    kl_coef: float
    """beta, in reward per nat."""
    gamma: float = 1.0
    """Discount of later rewards."""
    missing_end_penalty: float = 0.0
    """Taken off the score of a response that ran out of tokens."""

    def __call__(self, given: Round, memory: Mapping[str, float]) -> Learnable:
        """As `Rollout`; nothing is remembered."""
        earned = penalised(given, with_ends(given, self.missing_end_penalty), self.kl_coef)
        value_S = values_of(given)
        return_S = returns(earned.reward_S, earned.length_N, gamma=self.gamma)
        shown = {**metrics(given, earned), "val/mean": value_S.mean().item()}
        return Learnable((return_S - value_S).float(), return_S.float(), shown)


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """R_i - mean of R_j over the other responses to its prompt, R = score - beta log(pi_old / pi_ref)(y | x)."""

    kl_coef: float
    """beta, in reward per nat."""
    missing_end_penalty: float = 0.0
    """Taken off the score of a response that ran out of tokens."""

    def __call__(self, given: Round, memory: Mapping[str, float]) -> Learnable:
        """As `Rollout`; nothing is remembered, and every prompt has two responses or more."""
        earned = penalised(given, with_ends(given, self.missing_end_penalty), self.kl_coef)
        advantage_N = over_the_others(earned.reward_N, given.group_N)
        advantage_S = spread(advantage_N, earned.length_N).float()
        shown = {**metrics(given, earned), "objective/advantage_size": advantage_N.abs().mean().item()}
        return Learnable(advantage_S, torch.zeros_like(advantage_S), shown)


@dataclass(frozen=True, slots=True)
class GeneralisedAdvantages:
    """r_t = -beta log(pi_old / pi_ref)(y_t) + [t is the last] score, and GAE of those.

    Ziegler et al., 2019, https://arxiv.org/abs/1909.08593.
    """

    kl: KLControl
    gamma: float = 1.0
    """Discount of later rewards."""
    gae_lambda: float = 0.95
    """0 trusts the next value, 1 only what was seen."""
    scale_scores: bool = True
    """Divide scores by the standard deviation of all of the run so far; their mean is left."""
    clip_reward: float | None = 10.0
    """Largest size of a score after that; None leaves it."""
    missing_end_penalty: float = 0.0
    """Taken off the score, before that, of a response that ran out of tokens."""
    whiten_rewards: bool = False
    """Divide the round's token rewards by their standard deviation; their mean is left."""
    whiten_advantages: bool = True
    """Bring the round's advantages to mean 0 and standard deviation 1, over all of its tokens."""

    def __call__(self, given: Round, memory: Mapping[str, float]) -> Learnable:
        """As `Rollout`; memory holds beta and the moments of the scores."""
        beta, seen = memory.get("kl_coef", self.kl.start), Moments.from_memory(memory, "score")
        score_N = with_ends(given, self.missing_end_penalty)
        seen = seen.with_values(score_N)
        if self.scale_scores and seen.std:
            score_N = score_N / seen.std
        if self.clip_reward is not None:
            score_N = score_N.clamp(-self.clip_reward, self.clip_reward)
        earned = penalised(given, score_N, beta)
        value_S, length_N = values_of(given), given.log_probs.length_N
        reward_S = whiten(earned.reward_S, shift=False) if self.whiten_rewards else earned.reward_S
        advantage_S = advantages(reward_S, value_S, length_N, gamma=self.gamma, gae_lambda=self.gae_lambda)
        target_S = advantage_S + value_S
        if self.whiten_advantages:
            advantage_S = whiten(advantage_S)
        shown = metrics(given, earned)
        beta = self.kl.after(beta, shown["objective/kl"], len(length_N))
        return Learnable(
            advantage_S.float(),
            target_S.float(),
            {**shown, "val/mean": value_S.mean().item()},
            {"kl_coef": beta, **seen.to_memory("score")},
        )
