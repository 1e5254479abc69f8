"""Group relative policy optimization. Shao et al., 2024, https://arxiv.org/abs/2402.03300.
Shape suffixes: N rows (responses), S scored tokens of all rows."""

from typing import Literal

import torch

from trueup.batch.rows import LogProbs, Rollouts, row_sums
from trueup.objectives.loss import LIMIT, Loss, approximate_kl, log_ratios_to_old

AverageOver = Literal["responses", "tokens", "constant"]


def grpo(
    policy: LogProbs, reference: LogProbs | None, rollouts: Rollouts, *, kl_coef: float = 0.04,
    unbiased_kl: bool = False, clip: float = 0.2, clip_high: float = 0.2, sequence_ratio: bool = False,
    average_over: AverageOver = "responses", loss_length: float = 1024.0,
) -> Loss:  # fmt: skip
    """max(-A rho, -A clip(rho, 1 - e, 1 + e_high)) + kl_coef k3 a token, rho = pi / pi_old; Eqs. 3 and 4.
    k3 = pi_ref / pi - 1 - log(pi_ref / pi) of the token, an estimate of KL(pi || pi_ref) whose gradient is followed
    here; without kl_coef there need be no reference. e is `clip`. Variants: an e_high of its own (`clip_high`; DAPO, Yu
    et al., 2025, https://arxiv.org/abs/2503.14476); one ratio for a response, the geometric mean of its tokens'
    (`sequence_ratio`; GSPO, Zheng et al., 2025, https://arxiv.org/abs/2507.18071); rho k3 in place of k3
    (`unbiased_kl`; DeepSeek-V3.2, 2025, https://arxiv.org/abs/2512.02556). Averaged are a response's tokens and then
    the responses, as in the paper; all tokens of the batch, which then weigh a response (DAPO); or, over responses,
    sums over `loss_length`, whatever their lengths (Dr. GRPO, Liu et al., 2025, https://arxiv.org/abs/2503.20783)."""
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
        kl_S = (away_S.expm1() - away_S) * (ratio_S if unbiased_kl else 1.0)
        loss_S = policy_S + kl_coef * kl_S
        metrics["loss/kl"] = kl_S.detach()
    loss_N, weight_N = row_sums(loss_S, length_N), None
    if average_over == "tokens":
        weight_N = length_N.to(dtype)
    else:
        loss_N = loss_N / (loss_length if average_over == "constant" else length_N.clamp(min=1))
    return Loss.of_rows(loss_N, metrics, weight_N=weight_N)
