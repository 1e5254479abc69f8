"""Rank responses to align with human feedback. Yuan et al., 2023, https://arxiv.org/abs/2304.05302."""

import torch

from trueup.batch.index import Rankings
from trueup.batch.logprobs import LogProbs
from trueup.objectives.loss import Loss


def rrhf(
    policy: LogProbs,
    reference: None,
    rankings: Rankings,
    *,
    rank_weight: float = 1.0,
    sft_weight: float = 1.0,
) -> Loss:
    """rank_weight sum_{r_i < r_j} max(0, p_i - p_j) - sft_weight log pi(y_best | x); Eqs. 1 to 5.

    p_i is the log-probability of response i per response token. The authors' code divides by the padded
    length instead (https://github.com/GanjinZero/RRHF/issues/37); this follows the paper. Equal scores give
    no rank term, and the first of several best responses is imitated.

    Args:
        policy: N responses.
        reference: not used.
        rankings: G groups of scored responses.
        rank_weight: weight of the ranking term; 1 in the paper.
        sft_weight: weight of the imitation term (a sum over tokens); 1 in the paper.

    Returns:
        Loss over [G] groups.
    """
    group_N, score_N, p_N = rankings.group_N, rankings.score_N, policy.mean
    worse_NN = (group_N[:, None] == group_N[None]) & (score_N[:, None] < score_N[None])
    hinge_NN = torch.where(worse_NN, torch.relu(p_N[:, None] - p_N[None]), torch.zeros_like(p_N[:1]))
    rank_G = p_N.new_zeros(rankings.num_groups).index_add(0, group_N, hinge_NN.sum(1))
    best_G = _best_rows(rankings)
    nll_G = -policy.sum[best_G]
    right_NN = worse_NN & (p_N[:, None] < p_N[None]).detach()
    metrics = {
        "loss/rank": rank_G.detach(),
        "loss/sft": nll_G.detach(),
        "rewards/chosen": p_N.detach()[best_G],
        "rewards/accuracies": right_NN[worse_NN].to(p_N.dtype),
        "logps/chosen": policy.sum.detach()[best_G],
    }
    return Loss(rank_weight * rank_G + sft_weight * nll_G, torch.ones_like(rank_G), best_G, metrics)


def _best_rows(rankings: Rankings) -> torch.Tensor:
    """[G] int64, the first row with the highest score of each group."""
    order_N = torch.sort(rankings.score_N, descending=True, stable=True).indices
    order_N = order_N[torch.sort(rankings.group_N[order_N], stable=True).indices]
    size_G = torch.bincount(rankings.group_N, minlength=rankings.num_groups)
    return order_N[size_G.cumsum(0) - size_G]
