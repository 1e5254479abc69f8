"""REINFORCE with a leave-one-out baseline. Ahmadian et al., 2024, https://arxiv.org/abs/2402.14740.
Shape suffixes: N rows (responses), S scored tokens of all rows."""

from trueup.batch.rows import LogProbs, Rollouts, row_sums
from trueup.objectives.loss import Loss, approximate_kl, log_ratios_to_old


def rloo(policy: LogProbs, reference: LogProbs | None, rollouts: Rollouts) -> Loss:
    """-A log pi(y | x), A = R - mean of the R of the other responses to the prompt.
    A response is one action; the reference has gone into the rewards R."""
    log_ratio_S = log_ratios_to_old(policy, rollouts)
    dtype = log_ratio_S.dtype
    loss_N = row_sums(-rollouts.advantage_S.to(dtype) * policy.token_S.to(dtype), policy.length_N)
    metrics = {"policy/approxkl": approximate_kl(log_ratio_S)}
    return Loss.of_rows(loss_N, metrics)
