"""Advantages over the other responses to a prompt. Kool et al., 2019; Ahmadian et al., 2024, arXiv 2402.14740."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trueup.objectives.advantages.penalised import metrics, penalised, with_ends
from trueup.objectives.advantages.ragged import spread
from trueup.objectives.rollout import Learnable, Round


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """R_i - mean of R_j over the other responses to its prompt, R = score - beta log(pi_old / pi_ref)(y | x)."""

    kl_coef: float
    """beta, in reward per nat."""
    missing_end_penalty: float = 0.0
    """Taken off the score of a response that ran out of tokens."""

    def __call__(self, given: Round, memory: Mapping[str, float]) -> Learnable:
        """As `trueup.objectives.rollout.Rollout`; nothing is remembered, and every prompt has two responses or more."""
        earned = penalised(given, with_ends(given, self.missing_end_penalty), self.kl_coef)
        advantage_N = over_the_others(earned.reward_N, given.group_N)
        advantage_S = spread(advantage_N, earned.length_N).float()
        shown = {**metrics(given, earned), "objective/advantage_size": advantage_N.abs().mean().item()}
        return Learnable(advantage_S, torch.zeros_like(advantage_S), shown)


def over_the_others(reward_N: Tensor, group_N: Tensor) -> Tensor:
    """[N] R_i - (sum of the group's R - R_i) / (K - 1)."""
    groups = int(group_N.max()) + 1
    sum_G = reward_N.new_zeros(groups).index_add(0, group_N, reward_N)
    count_N = group_N.bincount(minlength=groups)[group_N]
    assert (count_N > 1).all()  # the view sees to that
    return reward_N - (sum_G[group_N] - reward_N) / (count_N - 1)
