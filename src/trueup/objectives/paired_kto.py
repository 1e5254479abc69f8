"""KTO on pairs, as the authors of the trust-region paper train it (https://github.com/turbo-llm/turbo-alignment).
Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656; Ethayarajh et al., 2024,
https://arxiv.org/abs/2402.01306."""

import torch

from trueup.batch.rows import LogProbs, Pairs
from trueup.objectives.loss import Loss, Measurement, pair_metrics


def paired_kto(
    policy: LogProbs, reference: LogProbs, pairs: Pairs, measured_M: torch.Tensor, *, beta: float = 0.1
) -> Loss:
    """(1 - sigmoid(beta (rho_w - z_l)) + 1 - sigmoid(beta (z_w - rho_l))) / 2.
    z_w and z_l = max(0, mean of rho_w and of rho_l over the step's pairs), out of `measured_M`, [M, 2]
    `pair_log_ratios` of them all. As in the authors' code the two means carry a gradient: every response of the step
    moves them, and them every loss. Written out, that adds to the gradient of rho_l of one pair beta / (2 P) sum over
    all pairs of s'(beta (rho_w - z_l)) where the mean is not below 0, and likewise for rho_w; the sum is known
    beforehand from the measured values, so that the gradient is exact however the step is cut."""
    log_ratio_N = policy.sum - reference.sum
    chosen_P, rejected_P = log_ratio_N[pairs.chosen_P], log_ratio_N[pairs.rejected_P]
    mean_2 = measured_M.mean(0)
    z_w, z_l = mean_2.clamp(min=0).to(chosen_P.dtype)
    loss_P = (torch.sigmoid(beta * (z_l - chosen_P)) + torch.sigmoid(beta * (rejected_P - z_w))) / 2
    through_w, through_l = _through_means(measured_M, beta).to(chosen_P.dtype)
    # Of value 0: they carry the gradient through the means, and nothing else.
    moved_P = through_w * (chosen_P - chosen_P.detach()) + through_l * (rejected_P - rejected_P.detach())
    metrics = pair_metrics(policy, beta * log_ratio_N, pairs, reference)
    metrics |= {"kto/z_chosen": z_w.reshape(1), "kto/z_rejected": z_l.reshape(1)}
    return Loss.of_pairs(loss_P + moved_P, pairs, metrics)


def pair_log_ratios(policy: LogProbs, reference: LogProbs, pairs: Pairs) -> torch.Tensor:
    """[P, 2] log(pi / pi_ref) of the chosen and the rejected response of P pairs."""
    log_ratio_N = policy.sum.double() - reference.sum.double()
    return torch.stack([log_ratio_N[pairs.chosen_P], log_ratio_N[pairs.rejected_P]], dim=1)


LOG_RATIOS = Measurement(lambda rows: (pair_log_ratios(*each) for each in rows.own()))
"""Those of the step, for `paired_kto`."""


def _through_means(measured_M: torch.Tensor, beta: float) -> torch.Tensor:
    """[2] derivative of the mean loss by z_w and by z_l; 0 where the mean is below 0, but not at 0, as in the authors'
    code."""
    mean_2 = measured_M.mean(0)
    z_w, z_l = mean_2.clamp(min=0)
    near_l = torch.sigmoid(beta * (measured_M[:, 1] - z_w))
    near_w = torch.sigmoid(beta * (z_l - measured_M[:, 0]))
    slope_w = -beta * (near_l * (1 - near_l)).mean() / 2
    slope_l = beta * (near_w * (1 - near_w)).mean() / 2
    return torch.stack([slope_w, slope_l]) * (mean_2 >= 0)
