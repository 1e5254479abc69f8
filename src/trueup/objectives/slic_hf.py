"""SLiC-HF: sequence likelihood calibration. Zhao et al., 2023, https://arxiv.org/abs/2305.10425."""

import torch

from trueup.batch.rows import LogProbs, PairsWithTarget
from trueup.objectives.loss import Loss, over_orders, pair_metrics


def slic_hf(
    policy: LogProbs, reference: None, targeted: PairsWithTarget, *, margin: float = 1.0, regularization: float = 0.1
) -> Loss:
    """max(0, margin - log pi(chosen) + log pi(rejected)) - regularization log pi(target).
    margin, in nats, is delta and regularization lambda in the paper."""
    pairs, log_prob_N = targeted.pairs, policy.sum
    hinge_P = over_orders(pairs, log_prob_N, lambda better, worse: torch.relu(margin - (better - worse)))
    nll_P = -log_prob_N[targeted.target_P]
    metrics = {"loss/calibration": hinge_P.detach(), "loss/sft": nll_P.detach()}
    metrics |= pair_metrics(policy, log_prob_N, pairs)
    return Loss(hinge_P + regularization * nll_P, torch.ones_like(hinge_P), targeted.target_P, metrics)
