"""Losses of what the policy has just written: PPO, GRPO, REINFORCE with a value baseline and with one of the others.

Each takes the log-probabilities of N responses under the policy, and for every token what its reward taught; it gives a
loss over [N] responses. The reference is not used where it has gone into the rewards.

Shape suffixes: N rows (responses), S scored tokens of all rows.
"""

from typing import Literal

import torch

from trueup.batch.rows import LogProbs, Rollouts, row_sums
from trueup.objectives.loss import LIMIT, Loss, approximate_kl, log_ratios_to_old


def ppo(
    policy: LogProbs,
    reference: LogProbs | None,
    rollouts: Rollouts,
    *,
    clip: float = 0.2,
    value_clip: float = 0.2,
    value_weight: float = 1.0,
    entropy_coef: float = 0.0,
) -> Loss:
    """max(-A rho, -A clip(rho, 1 +- e)) + c/2 max((V - R)^2, (clip(V, V_old +- e_v) - R)^2) - c_H H a token.

    Schulman et al., 2017, https://arxiv.org/abs/1707.06347.
    rho = pi / pi_old, and H is the entropy of what the token could have been. The policy's part is Eq. 7 of the paper,
    the bonus that of Eq. 9; clipped values are those of its authors' code. The mean is over all tokens of the batch.

    Args:
        policy: N responses, with a value for every token, and its entropy where there is a bonus for it.
        rollouts: of every token, its log-probability and value when the round began, its advantage A and target R.
        clip: e, how far a ratio may move before it earns nothing more.
        value_clip: e_v, the same for values, in reward.
        value_weight: c.
        entropy_coef: c_H, in the loss per nat; 0 asks for no entropies.

    Returns:
        Loss over [N] responses, each weighing its tokens; -A a token in the policy's part where nothing has moved.
    """
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


AverageOver = Literal["responses", "tokens", "constant"]


def grpo(
    policy: LogProbs,
    reference: LogProbs | None,
    rollouts: Rollouts,
    *,
    kl_coef: float = 0.04,
    clip: float = 0.2,
    clip_high: float = 0.2,
    sequence_ratio: bool = False,
    average_over: AverageOver = "responses",
    loss_length: float = 1024.0,
) -> Loss:
    """max(-A rho, -A clip(rho, 1 - e, 1 + e_high)) + kl_coef k3 a token, rho = pi / pi_old.

    Shao et al., 2024, https://arxiv.org/abs/2402.03300.
    k3 = pi_ref / pi - 1 - log(pi_ref / pi) of the token, an estimate of KL(pi || pi_ref) whose gradient is followed
    here; Eqs. 3 and 4. Variants: bounds that differ (DAPO, Yu et al., 2025, https://arxiv.org/abs/2503.14476), one
    ratio for a response (GSPO, Zheng et al., 2025, https://arxiv.org/abs/2507.18071), and what the sum is divided by
    (DAPO: tokens; Dr. GRPO, Liu et al., 2025, https://arxiv.org/abs/2503.20783: a constant).

    Args:
        reference: the same N responses under the reference; None where kl_coef is 0.
        rollouts: of every token, its log-probability when the round began and its response's advantage A.
        kl_coef: weight of the divergence.
        clip: e, how far a ratio may fall below 1 before it earns nothing more.
        clip_high: e_high, the same above 1.
        sequence_ratio: take the geometric mean of a response's ratios for each of its tokens.
        average_over: a response's tokens and then the responses, as in the paper; all tokens of the batch; or
            `loss_length` tokens and then the responses, whatever their lengths.
        loss_length: the constant.

    Returns:
        Loss over [N] responses, weighing their tokens where these are averaged over.
    """
    log_ratio_S = log_ratios_to_old(policy, rollouts)
    dtype, length_N = log_ratio_S.dtype, policy.length_N
    taken_S = log_ratio_S
    if sequence_ratio:
        mean_N = row_sums(log_ratio_S, length_N) / length_N.clamp(min=1)
        taken_S = mean_N.repeat_interleave(length_N, output_size=log_ratio_S.shape[0])
    ratio_S, advantage_S = taken_S.exp(), rollouts.advantage_S.to(dtype)
    plain_S, clipped_S = -advantage_S * ratio_S, -advantage_S * ratio_S.clamp(1 - clip, 1 + clip_high)
    policy_S = torch.maximum(plain_S, clipped_S)
    metrics = {
        "loss/policy": policy_S.detach(),
        "policy/ratio": ratio_S.detach(),
        "policy/clipfrac": (clipped_S > plain_S).to(dtype),
        "policy/approxkl": approximate_kl(log_ratio_S),
    }
    loss_S = policy_S
    if kl_coef:
        assert reference is not None
        away_S = (reference.token_S.to(dtype) - policy.token_S.to(dtype)).clamp(-LIMIT, LIMIT)
        kl_S = away_S.expm1() - away_S
        loss_S = policy_S + kl_coef * kl_S
        metrics["loss/kl"] = kl_S.detach()
    loss_N, weight_N = row_sums(loss_S, length_N), None
    if average_over == "tokens":
        weight_N = length_N.to(dtype)
    else:
        loss_N = loss_N / (loss_length if average_over == "constant" else length_N.clamp(min=1))
    return Loss.of_rows(loss_N, metrics, weight_N=weight_N)


def reinforce(
    policy: LogProbs, reference: LogProbs | None, rollouts: Rollouts, *, value_weight: float = 0.1
) -> Loss:
    """sum over tokens of -(Z - V_old) log pi + c (Z - V)^2.

    Williams, 1992; as in Lee et al., 2023, https://arxiv.org/abs/2309.00267.
    Args:
        policy: N responses, with a value for every token.
        rollouts: of every token, its advantage Z - V_old, through which no gradient flows, and its target Z.
        value_weight: c.
    """
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


def rloo(policy: LogProbs, reference: LogProbs | None, rollouts: Rollouts) -> Loss:
    """-A log pi(y | x), A = R - mean of the R of the other responses to the prompt.

    Ahmadian et al., 2024, https://arxiv.org/abs/2402.14740.
    Args:
        policy: N responses; a response is one action, so that its log-probabilities are summed.
        rollouts: of every token, its response's advantage A.
    """
    log_ratio_S = log_ratios_to_old(policy, rollouts)
    dtype = log_ratio_S.dtype
    loss_N = row_sums(-rollouts.advantage_S.to(dtype) * policy.token_S.to(dtype), policy.length_N)
    metrics = {"policy/approxkl": approximate_kl(log_ratio_S)}
    return Loss.of_rows(loss_N, metrics)
