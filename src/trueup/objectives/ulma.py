"""Unified language model alignment. Cai et al., 2023, https://arxiv.org/abs/2312.02554."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from trueup.batch.rows import LogProbs, Points
from trueup.objectives.loss import Loss, Measurement, point_metrics
from trueup.objectives.pointwise_dpo import point_rewards


def ulma(
    policy: LogProbs, reference: LogProbs, points: Points, *, beta: float = 0.1, continuous: bool = False,
    per_token: bool = False, log_z: float = 0.0,
) -> Loss:  # fmt: skip
    """-log pi(y | x) on demonstrations; point-wise DPO on every other labelled response.

    Binary, label z: -z log pi(y | x) - (1 - z) log(1 - sigmoid(s)), s = beta rho + log_z (`pointwise_dpo`).
    Continuous, label z in [0, 1]: (z - s)^2 on responses that are not demonstrations.

    In the binary form a thumb up (z = 1) is imitated, as a demonstration is: that is the paper's formula. The
    authors' code (https://github.com/Unified-Language-Model-Alignment/src) departs from it twice: it averages
    log-probabilities over tokens (`per_token`), and it adds the mean over demonstrations and the mean over the rest
    (`ulma_group_means`). This divides by all examples."""
    reward_N = point_rewards(policy, reference, beta=beta, per_token=per_token, log_z=log_z)
    label_N = points.label_N.to(reward_N.dtype)
    imitate_N = -policy.mean if per_token else -policy.sum
    if continuous:
        judged_N = (label_N - reward_N) ** 2
    else:
        judged_N = label_N * imitate_N - (1 - label_N) * F.logsigmoid(-reward_N)
    loss_N = torch.where(points.demonstration_N, imitate_N, judged_N)
    return Loss.of_rows(loss_N, point_metrics(policy, reward_N, points, reference))


def ulma_group_means(
    policy: LogProbs, reference: LogProbs, points: Points, labels_M: torch.Tensor, *, beta: float = 0.1,
    continuous: bool = False, per_token: bool = True, log_z: float = 0.0,
) -> Loss:  # fmt: skip
    """The mean of ULMA's loss over imitated responses, plus its mean over the others, as its authors' code adds up.
    Imitated are demonstrations and, in the binary form, labels of exactly 1
    (https://github.com/Unified-Language-Model-Alignment/src). The fewer a batch holds of one group, the more each of it
    counts. With M responses in the step (`labels_M`, [M, 2]: `labels` of each) and m of them in its group, a response's
    loss is multiplied by M / m, so that the mean over all is the sum of the two means; that of an empty group is 0."""
    loss = ulma(policy, reference, points, beta=beta, continuous=continuous, per_token=per_token, log_z=log_z)
    first_M, first_N = (imitated(values, continuous=continuous) for values in (labels_M, labels(points)))
    total, first = len(first_M), first_M.sum()
    size_N = torch.where(first_N, first, total - first).to(loss.per_example.dtype)
    return replace(loss, per_example=loss.per_example * (total / size_N))


def imitated(labels_N: torch.Tensor, *, continuous: bool) -> torch.Tensor:
    """[N] bool, which responses are imitated, from their labels and flags (`labels`)."""
    shown_N = labels_N[:, 1] == 1
    return shown_N if continuous else shown_N | (labels_N[:, 0] == 1)


def labels(points: Points) -> torch.Tensor:
    """[N, 2] float64, label and demonstration flag of N responses."""
    return torch.stack([points.label_N.double(), points.demonstration_N.double()], dim=1)


LABELS = Measurement(lambda rows: map(labels, rows.indexes()))  # those of the step, for `ulma_group_means`
