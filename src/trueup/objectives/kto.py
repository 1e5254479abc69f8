"""Kahneman-Tversky optimization. Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306."""

import torch

from trueup.batch.rows import LogProbs, Points
from trueup.objectives.loss import Loss, Measurement, point_metrics


def kto(
    policy: LogProbs, reference: LogProbs, points: Points, mismatched_M: torch.Tensor, *, beta: float = 0.1,
    desirable_weight: float = 1.0, undesirable_weight: float = 1.0,
) -> Loss:  # fmt: skip
    """w_D (1 - sigmoid(beta (rho - z0))) on desirable, w_U (1 - sigmoid(beta (z0 - rho))) on undesirable responses.
    z0 = max(0, mean of rho over prompts with responses to other prompts), an estimate of KL(pi || pi_ref) that no
    gradient flows through; Eq. 8. `mismatched_M` are [M, 1] log-ratios of the whole step's mismatched responses
    (`log_ratios`). A graded label z is desirable with weight z and undesirable with weight 1 - z."""
    log_ratio_N = policy.sum - reference.sum
    values_M, count = mismatched_M[:, 0], mismatched_M.numel()
    z0 = values_M.mean().clamp(min=0).to(log_ratio_N.dtype)
    error = values_M.std()[None] / count**0.5 if count > 1 else values_M.new_empty(0)  # one value has none
    label_N = points.label_N.to(log_ratio_N.dtype)
    gain_N = desirable_weight * torch.sigmoid(beta * (z0 - log_ratio_N))
    risk_N = undesirable_weight * torch.sigmoid(beta * (log_ratio_N - z0))
    loss_N = label_N * gain_N + (1 - label_N) * risk_N
    metrics = point_metrics(policy, beta * log_ratio_N, points, reference)
    metrics |= {"kto/z0": z0.reshape(1), "kto/z0_error": error}
    return Loss.of_rows(loss_N, metrics)


def log_ratios(policy: LogProbs, reference: LogProbs) -> torch.Tensor:
    """[M, 1] log(pi / pi_ref) of M responses."""
    return (policy.sum.double() - reference.sum.double())[:, None]


MISMATCHED = Measurement(lambda rows: (log_ratios(*each) for each in rows.mismatched()), needs_mismatched=True)
"""The log-ratios that the reference point of `kto` is estimated from."""
