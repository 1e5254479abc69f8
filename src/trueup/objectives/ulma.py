"""Unified language model alignment. Cai et al., 2023, https://arxiv.org/abs/2312.02554."""

import torch
import torch.nn.functional as F

from trueup.batch.index import Points
from trueup.batch.logprobs import LogProbs
from trueup.objectives.loss import Loss


def ulma(
    policy: LogProbs, reference: LogProbs, points: Points, *, beta: float = 0.1, continuous: bool = False
) -> Loss:
    """-log pi(y | x) on demonstrations; point-wise DPO on every other labelled response.

    Binary, label z: -z log pi(y | x) - (1 - z) log(1 - sigmoid(s)), s = beta log(pi / pi_ref).
    Continuous, label z in [0, 1]: (z - s)^2 on responses that are not demonstrations.

    In the binary form a thumb up (z = 1) is imitated, as a demonstration is: that is the paper's formula. The
    normaliser log Z(x) is taken as 0, as in the authors' code, which departs from the formula twice: it
    averages log-probabilities over tokens, and it adds the mean over demonstrations and the mean over the rest
    (https://github.com/Unified-Language-Model-Alignment/src). This sums over tokens and divides by all examples.

    Args:
        policy: N responses.
        reference: the same N responses under the reference.
        points: a label and a demonstration flag per row.
        beta: strength of the KL constraint, in reward per nat.
        continuous: labels are graded; fit them by least squares instead of treating them as probabilities.

    Returns:
        Loss over [N] responses.
    """
    reward_N = beta * (policy.sum - reference.sum)
    label_N = points.label_N.to(reward_N.dtype)
    imitate_N = -policy.sum
    if continuous:
        judged_N = (label_N - reward_N) ** 2
    else:
        judged_N = label_N * imitate_N - (1 - label_N) * F.logsigmoid(-reward_N)
    loss_N = torch.where(points.demonstration_N, imitate_N, judged_N)
    rows_N = torch.arange(policy.num_rows, device=loss_N.device)
    return Loss(loss_N, torch.ones_like(loss_N), rows_N, _metrics(policy, reward_N, points))


def _metrics(policy: LogProbs, reward_N: torch.Tensor, points: Points) -> dict[str, torch.Tensor]:
    reward_N, log_prob_N = reward_N.detach(), policy.sum.detach()
    good_N = points.demonstration_N | (points.label_N > 0.5)
    return {
        "rewards/chosen": reward_N[good_N],
        "rewards/rejected": reward_N[~good_N],
        "logps/chosen": log_prob_N[good_N],
        "logps/rejected": log_prob_N[~good_N],
        "logps/demonstrations": log_prob_N[points.demonstration_N],
    }
