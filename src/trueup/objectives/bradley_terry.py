"""The loss of a reward model. Bradley and Terry, 1952, https://doi.org/10.2307/2334029."""

import torch
import torch.nn.functional as F

from trueup.batch.rows import GradedPairs, Scores
from trueup.objectives.loss import Loss, reward_metrics


def bradley_terry(
    policy: Scores, reference: None, graded: GradedPairs, *, margin: float = 0.0,
    margin_per_score: float = 0.0, centring: float = 0.0,
) -> Loss:  # fmt: skip
    """-p log sigmoid(d - m) - (1 - p) log sigmoid(-d - m) + c (r(chosen) + r(rejected))^2, d = r(chosen) - r(rejected).
    p is the probability that the pair's order is right; whichever order is, its margin has to exceed
    m = margin + margin_per_score * the difference of the two scores given, at least 0 (Touvron et al., 2023,
    https://arxiv.org/abs/2307.09288, section 3.2.2). c, the centring, fixes the level of the scores, which comparisons
    leave open (Eisenstein et al., 2023, https://arxiv.org/abs/2312.09244, Eq. 2)."""
    score_N, pairs = policy.score_N.to(torch.promote_types(policy.score_N.dtype, torch.float32)), graded.pairs
    chosen_P, rejected_P = score_N[pairs.chosen_P], score_N[pairs.rejected_P]
    apart_P = chosen_P - rejected_P
    p_P = pairs.probability_P.to(score_N.dtype)
    margin_P = margin + margin_per_score * graded.gap_P.to(score_N.dtype)
    loss_P = -p_P * F.logsigmoid(apart_P - margin_P) - (1 - p_P) * F.logsigmoid(-apart_P - margin_P)
    if centring:
        loss_P = loss_P + centring * (chosen_P + rejected_P) ** 2
    # The level and the spread of the scores follow from their means.
    level = {"rewards/mean": score_N.detach(), "rewards/mean_square": score_N.detach() ** 2}
    return Loss.of_pairs(loss_P, pairs, reward_metrics(score_N, pairs) | level)
