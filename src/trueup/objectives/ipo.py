"""Identity preference optimization. Azar et al., 2023, https://arxiv.org/abs/2310.12036."""

from trueup.batch.rows import LogProbs, Pairs
from trueup.objectives.loss import Loss, over_orders, pair_metrics


def ipo(policy: LogProbs, reference: LogProbs, pairs: Pairs, *, beta: float = 0.1, per_token: bool = False) -> Loss:
    """(h - 1 / (2 beta))^2, h = rho(chosen) - rho(rejected); Eq. 17, beta being tau of the paper.
    A pair with the probability p of being right gives its expectation over the order, as the paper draws it:
    p (h - 1 / (2 beta))^2 + (1 - p) (h + 1 / (2 beta))^2, lowest at h = (2 p - 1) / (2 beta). `per_token` divides each
    log-ratio by the tokens of its response."""
    log_ratio_N = policy.sum - reference.sum
    if per_token:
        log_ratio_N = log_ratio_N / policy.length_N.clamp(min=1)
    target = 1 / (2 * beta)
    loss_P = over_orders(pairs, log_ratio_N, lambda better, worse: (better - worse - target) ** 2)
    return Loss.of_pairs(loss_P, pairs, pair_metrics(policy, beta * log_ratio_N, pairs, reference))
