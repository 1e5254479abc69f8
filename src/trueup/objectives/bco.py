"""Binary classifier optimization. Jung et al., 2024, https://arxiv.org/abs/2404.04656."""

import torch
import torch.nn.functional as F

from trueup.batch.rows import LogProbs, Points
from trueup.objectives.loss import Loss, Measurement, point_metrics


def bco(
    policy: LogProbs, reference: LogProbs, points: Points, seen_2: torch.Tensor | None = None, *, beta: float = 0.1
) -> Loss:
    """-z log sigmoid(r - delta) - (1 - z) log sigmoid(delta - r), r = beta rho, z the label.
    delta is the mean reward of all responses of the run so far, those of this step among them, and a constant: the
    running mean of TRL's BCOTrainer (1.12). `seen_2` are sum and number of the log-ratios so far; None takes 0."""
    reward_N = beta * (policy.sum - reference.sum)
    delta = reward_N.new_zeros(()) if seen_2 is None else (beta * seen_2[0] / seen_2[1]).to(reward_N.dtype)
    label_N = points.label_N.to(reward_N.dtype)
    loss_N = -label_N * F.logsigmoid(reward_N - delta) - (1 - label_N) * F.logsigmoid(delta - reward_N)
    metrics = point_metrics(policy, reward_N, points, reference) | {"bco/delta": delta.reshape(1)}
    return Loss.of_rows(loss_N, metrics)


def _added(log_ratio_M: torch.Tensor, seen_2: torch.Tensor | None) -> torch.Tensor:
    now_2 = torch.stack([log_ratio_M.sum(), log_ratio_M.new_tensor(log_ratio_M.numel())])
    return now_2 if seen_2 is None else seen_2 + now_2


SEEN = Measurement(
    lambda rows: ((policy.sum.double() - reference.sum.double())[:, None] for policy, reference, _ in rows.own()),
    remembers=_added,
)
"""Sum and number of the log-ratios of all responses of the run so far, for `bco`."""
