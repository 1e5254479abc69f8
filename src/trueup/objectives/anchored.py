"""Losses of pairs in which each response's own reward counts, not only the difference: APO, NCA and SPPO.

Each takes the log-probabilities of N responses under policy and reference, and P pairs among the rows; it gives a loss
over [P] pairs. r(y) = beta log(pi / pi_ref)(y | x), beta the strength of the KL constraint, in reward per nat. A pair
with the probability p of being right gives the expectation over its order.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from trueup.batch.rows import LogProbs, Pairs
from trueup.objectives.loss import Loss, over_orders, pair_metrics


def apo_zero(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """1 - sigmoid(r_w) + sigmoid(r_l): raise chosen and lower rejected responses.

    D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266, Eq. 7.
    """
    return _of_rewards(
        policy, reference, pairs, beta, lambda better, worse: torch.sigmoid(-better) + torch.sigmoid(worse)
    )


def apo_down(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """sigmoid(r_w) + 1 - sigmoid(r_w - r_l): lower chosen responses, and rejected ones more.

    D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266, Eq. 8.
    """
    return _of_rewards(
        policy,
        reference,
        pairs,
        beta,
        lambda better, worse: torch.sigmoid(better) + torch.sigmoid(worse - better),
    )


def nca(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """-log sigmoid(r_w) - log sigmoid(-r_w) / 2 - log sigmoid(-r_l) / 2.

    Noise contrastive alignment with preferences. Chen et al., 2024, https://arxiv.org/abs/2402.05369.
    """

    def loss(better: Tensor, worse: Tensor) -> Tensor:
        return -F.logsigmoid(better) - (F.logsigmoid(-better) + F.logsigmoid(-worse)) / 2

    return _of_rewards(policy, reference, pairs, beta, loss)


def sppo(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """((r_w - 1/2)^2 + (r_l + 1/2)^2) / beta^2: the log-ratios are pulled to plus and minus 1 / (2 beta).

    Self-play preference optimization, hard form. Wu et al., 2024, https://arxiv.org/abs/2405.00675, Eq. 4.7 with the
    probabilities 1 and 0; beta is 1 / eta of the paper.
    """

    def loss(better: Tensor, worse: Tensor) -> Tensor:
        return ((better - 0.5) ** 2 + (worse + 0.5) ** 2) / beta**2

    return _of_rewards(policy, reference, pairs, beta, loss)


def _of_rewards(
    policy: LogProbs,
    reference: LogProbs,
    pairs: Pairs,
    beta: float,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Loss:
    reward_N = beta * (policy.sum - reference.sum)
    loss_P = over_orders(pairs, reward_N, loss)
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs, reference))
