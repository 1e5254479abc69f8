"""Proximal policy optimization. Schulman et al., 2017, https://arxiv.org/abs/1707.06347.
Shape suffixes: N rows (responses), S scored tokens of all rows."""

import torch

from trueup.batch.rows import LogProbs, Rollouts, row_sums
from trueup.objectives.loss import Loss, approximate_kl, log_ratios_to_old


def ppo(
    policy: LogProbs, reference: LogProbs | None, rollouts: Rollouts, *, clip: float = 0.2,
    value_clip: float = 0.2, value_weight: float = 1.0, entropy_coef: float = 0.0,
) -> Loss:  # fmt: skip
    """max(-A rho, -A clip(rho, 1 +- e)) + c/2 max((V - R)^2, (clip(V, V_old +- e_v) - R)^2) - c_H H a token.
    rho = pi / pi_old, and H is the entropy of what the token could have been, in nats, asked for where c_H
    (`entropy_coef`) is not 0. The policy's part is Eq. 7 of the paper, with e as `clip`, the bonus that of Eq. 9;
    clipped values, e_v being `value_clip` in reward, are those of its authors' code. The reference has gone into the
    rewards. Each response weighs its tokens, so that the mean is over all tokens of the batch."""
    assert policy.value_S is not None
    log_ratio_S = log_ratios_to_old(policy, rollouts)
    dtype = log_ratio_S.dtype
    ratio_S, advantage_S = log_ratio_S.exp(), rollouts.advantage_S.to(dtype)
    plain_S, clipped_S = -advantage_S * ratio_S, -advantage_S * ratio_S.clamp(1 - clip, 1 + clip)
    policy_S = torch.maximum(plain_S, clipped_S)
    value_S, old_S, target_S = (
        values.to(dtype) for values in (policy.value_S, rollouts.old_value_S, rollouts.target_S)
    )
    near_S = old_S + (value_S - old_S).clamp(-value_clip, value_clip)
    error_S, clipped_error_S = (value_S - target_S) ** 2, (near_S - target_S) ** 2
    worst_S = 0.5 * torch.maximum(error_S, clipped_error_S)
    token_loss_S = policy_S + value_weight * worst_S
    metrics = {
        "loss/policy": policy_S.detach(),
        "loss/value": worst_S.detach(),
        "policy/ratio": ratio_S.detach(),
        "policy/clipfrac": (clipped_S > plain_S).to(dtype),
        "policy/approxkl": approximate_kl(log_ratio_S),
        "val/clipfrac": (clipped_error_S > error_S).to(dtype),
    }
    if entropy_coef:
        assert policy.entropy_S is not None
        entropy_S = policy.entropy_S.to(dtype)
        token_loss_S = token_loss_S - entropy_coef * entropy_S
        metrics["policy/entropy"] = entropy_S.detach()
    loss_N = row_sums(token_loss_S, policy.length_N)
    return Loss.of_rows(loss_N, metrics, weight_N=policy.length_N.to(dtype))
