"""Unlikelihood training. Welleck et al., 2019, https://arxiv.org/abs/1908.04319."""

from trueup.batch.index import Points
from trueup.batch.logprobs import LogProbs
from trueup.objectives.log1mexp import log1mexp
from trueup.objectives.loss import Loss, point_metrics


def unlikelihood(policy: LogProbs, reference: None, points: Points, *, weight: float = 1.0) -> Loss:
    """-z log pi(y | x) - weight (1 - z) sum_t log(1 - pi(y_t | x, y_<t)), z the label.

    Korbak et al., 2023 (https://arxiv.org/abs/2302.08582), Eq. 6, with the labels 1 and 0. A label between
    mixes the two. Never below 0; where pi(y_t) is within 2^-20 of 1, its term follows its tangent.

    Args:
        policy: N responses; both terms are summed over tokens.
        reference: not used.
        points: a label per row; whether it is a demonstration makes no difference.
        weight: weight of making undesirable tokens less likely.

    Returns:
        Loss over [N] responses.
    """
    log_prob_N = policy.sum
    label_N = points.label_N.to(log_prob_N.dtype)
    other_S = log1mexp(policy.token_S.to(log_prob_N.dtype))
    other_N = LogProbs(other_S, policy.length_N).sum
    loss_N = -label_N * log_prob_N - weight * (1 - label_N) * other_N
    return Loss.of_rows(loss_N, point_metrics(policy, policy.sum, points))
