"""REINFORCE with a value baseline. Williams, 1992; as in Lee et al., 2023, https://arxiv.org/abs/2309.00267.
Shape suffixes: N rows (responses), S scored tokens of all rows."""

from trueup.batch.rows import LogProbs, Rollouts, row_sums
from trueup.objectives.loss import Loss, approximate_kl, log_ratios_to_old


def reinforce(policy: LogProbs, reference: LogProbs | None, rollouts: Rollouts, *, value_weight: float = 0.1) -> Loss:
    """sum over tokens of -(Z - V_old) log pi + c (Z - V)^2, c being `value_weight`.
    No gradient flows through the advantage Z - V_old; the reference has gone into the rewards."""
    assert policy.value_S is not None
    log_ratio_S = log_ratios_to_old(policy, rollouts)
    dtype = log_ratio_S.dtype
    policy_N = row_sums(-rollouts.advantage_S.to(dtype) * policy.token_S.to(dtype), policy.length_N)
    error_S = (policy.value_S.to(dtype) - rollouts.target_S.to(dtype)) ** 2
    value_N = row_sums(error_S, policy.length_N)
    loss_N = policy_N + value_weight * value_N
    metrics = {
        "loss/policy": policy_N.detach(),
        "loss/value": value_N.detach(),
        "policy/approxkl": approximate_kl(log_ratio_S),
    }
    return Loss.of_rows(loss_N, metrics)
