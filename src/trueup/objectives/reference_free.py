"""Losses of pairs that need no reference: SimPO, CPO and ORPO."""

import torch.nn.functional as F

from trueup.batch.rows import LogProbs, Pairs
from trueup.objectives.loss import Loss, over_orders, pair_metrics
from trueup.objectives.unlikelihood import log1mexp


def simpo(policy: LogProbs, reference: None, pairs: Pairs, *, beta: float = 2.0, margin: float = 1.0) -> Loss:
    """-log sigmoid(r_w - r_l - margin), r(y) = beta log pi(y | x) / |y|; beta in reward per nat a token.
    Meng et al., 2024, https://arxiv.org/abs/2405.14734, Eq. 6; the margin, in reward, is gamma in the paper."""
    reward_N = beta * policy.mean
    loss_P = over_orders(pairs, reward_N, lambda better, worse: -F.logsigmoid(better - worse - margin))
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs))


def cpo(policy: LogProbs, reference: None, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """-log sigmoid(r_w - r_l), r(y) = beta log pi(y | x). Xu et al., 2024, https://arxiv.org/abs/2401.08417, Eq. 3.
    The likelihood of chosen responses that the paper adds is `beside_sft`."""
    reward_N = beta * policy.sum
    loss_P = over_orders(pairs, reward_N, lambda better, worse: -F.logsigmoid(better - worse))
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs))


def orpo(policy: LogProbs, reference: None, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """-beta log sigmoid(o_w - o_l), o(y) = log(p / (1 - p)), log p = log pi(y | x) / |y|: the log odds.
    Hong et al., 2024, https://arxiv.org/abs/2403.07691, Eqs. 4 and 7; beta is lambda in the paper. The likelihood of
    chosen responses that the paper adds it to is `beside_sft`."""
    odds_N = policy.mean - log1mexp(policy.mean)
    loss_P = beta * over_orders(pairs, odds_N, lambda better, worse: -F.logsigmoid(better - worse))
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, beta * policy.mean, pairs))
