"""Direct preference optimization, plain, conservative and robust. Rafailov et al., 2023,
https://arxiv.org/abs/2305.18290."""

from dataclasses import replace

import torch.nn.functional as F

from trueup.batch.rows import LogProbs, Pairs
from trueup.objectives.loss import Loss, pair_metrics


def dpo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.0,
    per_token: bool = False,
) -> Loss:  # fmt: skip
    """-p log sigmoid(m) - (1 - p) log sigmoid(-m), m = r(chosen) - r(rejected), r = beta rho; Eq. 7 where p is 1.
    p is the probability that the pair's order is right. Label smoothing e, the share of pairs whose order is taken to
    be wrong, in [0, 0.5), makes it (1 - e) p + e (1 - p): conservative DPO (Mitchell, 2023,
    https://ericmitchell.ai/cdpo.pdf). `per_token` divides each log-ratio by the tokens of its response."""
    reward_N = beta * (policy.mean - reference.mean if per_token else policy.sum - reference.sum)
    margin_P = reward_N[pairs.chosen_P] - reward_N[pairs.rejected_P]
    given_P = pairs.probability_P.to(margin_P.dtype)
    p_P = (1 - label_smoothing) * given_P + label_smoothing * (1 - given_P)
    loss_P = -p_P * F.logsigmoid(margin_P) - (1 - p_P) * F.logsigmoid(-margin_P)
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, reward_N, pairs, reference))


def robust_dpo(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, label_smoothing: float = 0.1
) -> Loss:
    """[-(1 - e) log sigmoid(m) + e log sigmoid(-m)] / (1 - 2 e), m the margin of DPO, e the share of wrong orders.
    Chowdhury et al., 2024, https://arxiv.org/abs/2403.00409. Its mean over orders of which a share e in [0, 0.5) was
    flipped is the DPO loss of the right orders: DPO with (p - e) / (1 - 2 e) in place of p, the inverse of label
    smoothing. Unbounded below, as that exceeds 1."""
    right_P = (pairs.probability_P.to(policy.sum.dtype) - label_smoothing) / (1 - 2 * label_smoothing)
    return dpo(policy, reference, replace(pairs, probability_P=right_P), beta=beta)
