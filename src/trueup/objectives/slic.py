"""Sequence likelihood calibration against a reference. Liu et al., 2023, https://arxiv.org/abs/2309.06657."""

import torch

from trueup.batch.rows import LogProbs, Pairs
from trueup.objectives.loss import Loss, over_orders, pair_metrics


def slic(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.05) -> Loss:
    """max(0, 1 - m), m = r(chosen) - r(rejected), r = beta rho: the paper's hinge-norm, beta being its gamma.
    A pair with the probability p of being right gives p max(0, 1 - m) + (1 - p) max(0, 1 + m), and no longer pulls once
    its log-ratios are 1 / beta apart."""
    reward_N = beta * (policy.sum - reference.sum)
    loss_P = over_orders(pairs, reward_N, lambda better, worse: torch.relu(1 - (better - worse)))
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs, reference))
