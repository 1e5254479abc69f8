"""Advantages over a learned baseline. Williams, 1992; as in Lee et al., 2023, https://arxiv.org/abs/2309.00267."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trueup.objectives.advantages.gae import returns
from trueup.objectives.advantages.penalised import metrics, penalised, values_of, with_ends
from trueup.objectives.rollout import Learnable, Round


@dataclass(frozen=True, slots=True)
class ValueBaseline:
    """Z_t - V_t, Z_t = r_t + gamma r_{t+1} + ..., r_t = -beta log(pi_old / pi_ref)(y_t) + [t is the last] score."""

    kl_coef: float
    """beta, in reward per nat."""
    gamma: float = 1.0
    """Discount of later rewards."""
    missing_end_penalty: float = 0.0
    """Taken off the score of a response that ran out of tokens."""

    def __call__(self, given: Round, memory: Mapping[str, float]) -> Learnable:
        """As `trueup.objectives.rollout.Rollout`; nothing is remembered."""
        earned = penalised(given, with_ends(given, self.missing_end_penalty), self.kl_coef)
        value_S = values_of(given)
        return_S = returns(earned.reward_S, earned.length_N, gamma=self.gamma)
        shown = {**metrics(given, earned), "val/mean": value_S.mean().item()}
        return Learnable((return_S - value_S).float(), return_S.float(), shown)
