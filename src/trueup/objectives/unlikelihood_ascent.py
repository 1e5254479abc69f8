"""Unlikelihood as the authors of ULMA compare with it: gradient ascent on the undesirable responses.

Cai et al., 2023, https://arxiv.org/abs/2312.02554.
"""

from trueup.batch.index import Points
from trueup.batch.logprobs import LogProbs
from trueup.objectives.loss import Loss, point_metrics


def unlikelihood_ascent(policy: LogProbs, reference: None, points: Points, *, weight: float = 1.0) -> Loss:
    """-z p(y) + weight (1 - z) p(y), z the label, p(y) = log pi(y | x) / |y|. Unbounded below.

    As in https://github.com/Unified-Language-Model-Alignment/src, which adds the mean over responses with
    label 1 and the mean over those with label 0; this divides by all responses.

    Args:
        policy: N responses; log-probabilities are averaged over tokens.
        reference: not used.
        points: a label per row; whether it is a demonstration makes no difference.
        weight: weight of making undesirable responses less likely.

    Returns:
        Loss over [N] responses.
    """
    mean_N = policy.mean
    label_N = points.label_N.to(mean_N.dtype)
    loss_N = (weight * (1 - label_N) - label_N) * mean_N
    return Loss.of_rows(loss_N, point_metrics(policy, policy.sum, points))
