"""Losses of rankings without a reference: RRHF (Yuan et al., 2023, https://arxiv.org/abs/2304.05302) and PRO."""

import torch

from trueup.batch.rows import LogProbs, Rankings
from trueup.objectives.loss import Loss, Selected


def rrhf(
    policy: LogProbs, reference: None, rankings: Rankings, *, rank_weight: float = 1.0, sft_weight: float = 1.0
) -> Loss:
    """rank_weight sum_{r_i < r_j} max(0, p_i - p_j) - sft_weight log pi(y_best | x); Eqs. 1 to 5.
    p_i is the log-probability of response i per response token. Equal scores give no rank term, and the first
    of several best responses is imitated. `rrhf_padded` is what the authors published as code."""
    return _ranked(policy, rankings, policy.mean, -policy.sum, rank_weight, sft_weight)


def rrhf_padded(
    policy: LogProbs, reference: None, rankings: Rankings, *, rank_weight: float = 1.0, sft_weight: float = 1.0
) -> Loss:
    """rank_weight sum_{r_i < r_j} max(0, p_i - p_j) - sft_weight p_best, p_i = log pi(y_i | x) / L.
    L is the padded length of the group, the tokens of its prompt and of its longest response: one divisor for
    all of its candidates, and for the imitation term, as in the authors' code
    (https://github.com/GanjinZero/RRHF at e1a2b61; a mask is overwritten in place, issues 37, 38 and 51)."""
    assert policy.prompt_N is not None
    longest_G = torch.zeros(rankings.num_groups, dtype=torch.int64, device=policy.length_N.device)
    longest_G = longest_G.scatter_reduce(0, rankings.group_N, policy.length_N, "amax")
    p_N = policy.sum / (policy.prompt_N + longest_G[rankings.group_N])
    return _ranked(policy, rankings, p_N, -p_N, rank_weight, sft_weight)


def pro(policy: LogProbs, reference: None, rankings: Rankings, *, sft_weight: float = 0.05) -> Loss:
    """sum_k [log(e^{T_kk p_k} + sum_i e^{T_ki p_i}) - T_kk p_k] - sft_weight (n - 1)^2 log pi(y_best | x).
    i runs over the responses worse than k, p is the log-probability per response token, T_ki = r_k - r_i and T_kk the
    largest of them. Song et al., 2023, https://arxiv.org/abs/2306.17492; the temperatures and the square are those of
    the authors' code (https://github.com/AlibabaResearch/DAMO-ConvAI/tree/main/PRO). Equal scores are not told
    apart."""
    p_N, group_N = policy.mean, rankings.group_N
    gap_NN = (rankings.score_N[:, None] - rankings.score_N[None]).to(p_N.dtype)
    worse_NN = (group_N[:, None] == group_N[None]) & (gap_NN > 0)
    own_N = torch.where(worse_NN, gap_NN, 0.0).amax(1) * p_N
    others_NN = torch.where(worse_NN, gap_NN * p_N[None], -torch.inf)
    rank_N = torch.cat([own_N[:, None], others_NN], dim=1).logsumexp(1) - own_N
    rank_G = p_N.new_zeros(rankings.num_groups).index_add(0, group_N, rank_N)
    size_G = torch.zeros_like(rank_G).index_add(0, group_N, torch.ones_like(p_N))
    return _reported(policy, rankings, p_N, worse_NN.T, rank_G, -policy.sum, 1.0, sft_weight * (size_G - 1) ** 2)


def _ranked(
    policy: LogProbs, rankings: Rankings, p_N: torch.Tensor, nll_N: torch.Tensor, rank_weight: float, sft_weight: float
) -> Loss:
    """Both terms, from what responses are ordered by and what imitating each of them costs."""
    group_N, score_N = rankings.group_N, rankings.score_N
    worse_NN = (group_N[:, None] == group_N[None]) & (score_N[:, None] < score_N[None])
    hinge_NN = torch.where(worse_NN, torch.relu(p_N[:, None] - p_N[None]), torch.zeros_like(p_N[:1]))
    rank_G = p_N.new_zeros(rankings.num_groups).index_add(0, group_N, hinge_NN.sum(1))
    return _reported(policy, rankings, p_N, worse_NN, rank_G, nll_N, rank_weight, sft_weight)


def _reported(
    policy: LogProbs, rankings: Rankings, p_N: torch.Tensor, worse_NN: torch.Tensor, rank_G: torch.Tensor,
    nll_N: torch.Tensor, rank_weight: float, sft_weight: float | torch.Tensor,
) -> Loss:  # fmt: skip
    """The sum of both terms; `worse_NN` says which response is worse than which."""
    best_G = _best_rows(rankings)
    nll_G = nll_N[best_G]
    right_NN = worse_NN & (p_N[:, None] < p_N[None]).detach()
    metrics: dict[str, torch.Tensor | Selected] = {
        "loss/rank": rank_G.detach(),
        "loss/sft": nll_G.detach(),
        "rewards/chosen": p_N.detach()[best_G],
        "rewards/accuracies": Selected(right_NN.to(p_N.dtype), worse_NN),
        "logps/chosen": policy.sum.detach()[best_G],
    }
    return Loss(rank_weight * rank_G + sft_weight * nll_G, torch.ones_like(rank_G), best_G, metrics)


def _best_rows(rankings: Rankings) -> torch.Tensor:
    """[G] int64, the first row with the highest score of each group."""
    order_N = torch.sort(rankings.score_N, descending=True, stable=True).indices
    order_N = order_N[torch.sort(rankings.group_N[order_N], stable=True).indices]
    size_G = torch.zeros(rankings.num_groups, dtype=torch.int64, device=order_N.device)
    size_G = size_G.index_add(0, rankings.group_N, torch.ones_like(order_N))
    return order_N[size_G.cumsum(0) - size_G]
