"""Rewards, advantages and value targets of PPO on responses. Ziegler et al., 2019, https://arxiv.org/abs/1909.08593."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trueup.objectives.advantages.gae import advantages
from trueup.objectives.advantages.kl_control import KLControl
from trueup.objectives.advantages.moments import Moments
from trueup.objectives.advantages.penalised import metrics, penalised, values_of, with_ends
from trueup.objectives.advantages.whiten import whiten
from trueup.objectives.rollout import Learnable, Round


@dataclass(frozen=True, slots=True)
class GeneralisedAdvantages:
    """r_t = -beta log(pi_old / pi_ref)(y_t) + [t is the last] score, and GAE of those."""

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
        """As `trueup.objectives.rollout.Rollout`; memory holds beta and the moments of the scores."""
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
