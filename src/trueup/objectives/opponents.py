"""Learning from a response of the policy beside one that the reference has a part in: XPO and Nash-MD.
Of each pair the earlier row is the policy's; see `trueup.methods.method.Method.mixture`.
Shape suffixes: N rows (responses), P pairs."""

import torch

from trueup.batch.rows import LogProbs, Pairs
from trueup.objectives.dpo import dpo
from trueup.objectives.loss import Loss, pair_metrics


def xpo(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, alpha: float = 1e-5) -> Loss:
    """DPO + alpha log pi(y_ref | x). Xie et al., 2024, https://arxiv.org/abs/2405.21046, Algorithm 1.
    Each pair is of the policy's response and then the reference's y_ref; alpha weighs the optimism: what the reference
    writes anyway is made less likely."""
    plain = dpo(policy, reference, pairs, beta=beta)
    bonus_P = alpha * policy.sum[torch.maximum(pairs.chosen_P, pairs.rejected_P)]
    metrics = {**plain.metrics, "loss/exploration": bonus_P.detach()}
    return Loss.of_pairs(plain.per_example + bonus_P, pairs, metrics)


def nash_md(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1) -> Loss:
    """-(P(y > y') - 1/2) log pi(y | x) + beta / 2 (log(pi / pi_ref)(y | x))^2.
    Its gradient is the policy gradient of Munos et al., 2023, https://arxiv.org/abs/2312.00886 (Nash-MD-PG), which is
    -[P(y > y') - 1/2 - beta log(pi / pi_ref)(y | x)] times that of log pi(y | x): y is the policy's, y' that of the
    mixture of policy and reference; how surely it is preferred is P(y > y'). beta is tau of the paper, in probability
    of winning per nat. The gradient is what counts; the value depends on how likely y is."""
    own_P = torch.minimum(pairs.chosen_P, pairs.rejected_P)
    sure_P = pairs.probability_P.to(policy.sum.dtype)
    wins_P = torch.where(pairs.chosen_P == own_P, sure_P, 1 - sure_P)
    log_ratio_N = policy.sum - reference.sum
    loss_P = (0.5 - wins_P) * policy.sum[own_P] + beta / 2 * log_ratio_N[own_P] ** 2
    metrics = pair_metrics(policy, beta * log_ratio_N, pairs, reference) | {"policy/wins": wins_P}
    return Loss(loss_P, torch.ones_like(loss_P), own_P, metrics)
