"""Unlikelihood training. Welleck et al., 2019, https://arxiv.org/abs/1908.04319."""

import math

import torch

from trueup.batch.rows import LogProbs, Points
from trueup.objectives.loss import Loss, point_metrics

NEAREST = 2.0**-20  # log-probabilities above -NEAREST (probabilities above about 1 - 1e-6) are on the tangent


def unlikelihood(policy: LogProbs, reference: None, points: Points, *, weight: float = 1.0) -> Loss:
    """-z log pi(y | x) - weight (1 - z) sum_t log(1 - pi(y_t | x, y_<t)), z the label.
    Korbak et al., 2023 (https://arxiv.org/abs/2302.08582), Eq. 6, with the labels 1 and 0. A label between
    mixes the two. Never below 0; where pi(y_t) is within 2^-20 of 1, its term follows its tangent."""
    log_prob_N = policy.sum
    label_N = points.label_N.to(log_prob_N.dtype)
    other_S = log1mexp(policy.token_S.to(log_prob_N.dtype))
    other_N = LogProbs(other_S, policy.length_N).sum
    loss_N = -label_N * log_prob_N - weight * (1 - label_N) * other_N
    return Loss.of_rows(loss_N, point_metrics(policy, policy.sum, points))


def unlikelihood_ascent(policy: LogProbs, reference: None, points: Points, *, weight: float = 1.0) -> Loss:
    """-z p(y) + weight (1 - z) p(y), z the label, p(y) = log pi(y | x) / |y|. Unbounded below.
    Gradient ascent on the undesirable responses, as the authors of ULMA compare with it: Cai et al., 2023,
    https://arxiv.org/abs/2312.02554. As in https://github.com/Unified-Language-Model-Alignment/src, which adds the
    mean over responses with label 1 and the mean over those with label 0; this divides by all responses."""
    mean_N = policy.mean
    label_N = points.label_N.to(mean_N.dtype)
    loss_N = (weight * (1 - label_N) - label_N) * mean_N
    return Loss.of_rows(loss_N, point_metrics(policy, policy.sum, points))


def log1mexp(log_prob: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(log_prob)), of any shape, for log-probabilities at most 0 up to rounding.
    Without loss of digits at either end: Maechler, 2012,
    https://cran.r-project.org/web/packages/Rmpfr/vignettes/log1mexp-note.pdf. The function falls without bound as the
    probability goes to 1. Above -`NEAREST` it goes on along its tangent, so that value and slope stay finite: -13.86
    and -2^20 there, -14.86 at a probability of 1. The slope with respect to a logit, the tangent's times 1 - p, is at
    most 1 in size, as it is everywhere."""
    near_one = log_prob.clamp(-math.log(2), -NEAREST)
    far_from_one = log_prob.clamp(max=-math.log(2))
    value = torch.where(
        log_prob > -math.log(2), torch.log(-torch.expm1(near_one)), torch.log1p(-torch.exp(far_from_one))
    )
    return value - torch.relu(log_prob + NEAREST) / math.expm1(NEAREST)
