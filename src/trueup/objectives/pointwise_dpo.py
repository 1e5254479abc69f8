"""Point-wise DPO: DPO for responses judged one by one. Cai et al., 2023, https://arxiv.org/abs/2312.02554."""

import torch.nn.functional as F
from torch import Tensor

from trueup.batch.rows import LogProbs, Points
from trueup.objectives.loss import Loss, point_metrics


def pointwise_dpo(
    policy: LogProbs, reference: LogProbs, points: Points, *, beta: float = 0.1, continuous: bool = False,
    per_token: bool = False, log_z: float = 0.0,
) -> Loss:  # fmt: skip
    """-z log sigmoid(s) - (1 - z) log(1 - sigmoid(s)), or, continuous, (z - s)^2: least squares of graded labels.
    s = beta rho + log_z, the implicit reward of a response; z its label in [0, 1]. log_z stands for beta log Z(x),
    taken as a constant; 0 in the authors' code, which also takes log-ratios per token (`per_token`)."""
    reward_N = point_rewards(policy, reference, beta=beta, per_token=per_token, log_z=log_z)
    label_N = points.label_N.to(reward_N.dtype)
    if continuous:
        loss_N = (label_N - reward_N) ** 2
    else:
        loss_N = -label_N * F.logsigmoid(reward_N) - (1 - label_N) * F.logsigmoid(-reward_N)
    return Loss.of_rows(loss_N, point_metrics(policy, reward_N, points, reference))


def point_rewards(policy: LogProbs, reference: LogProbs, *, beta: float, per_token: bool, log_z: float) -> Tensor:
    """[N] s = beta log(pi / pi_ref) + log_z; the log-ratio is divided by the number of tokens if asked."""
    log_ratio_N = policy.mean - reference.mean if per_token else policy.sum - reference.sum
    return beta * log_ratio_N + log_z
