"""ULMA as its authors' code adds it up. Cai et al., 2023, https://arxiv.org/abs/2312.02554."""

from dataclasses import replace

import torch
from torch import Tensor

from trueup.batch.index import Points
from trueup.batch.logprobs import LogProbs
from trueup.objectives.loss import Loss
from trueup.objectives.ulma import ulma


def ulma_group_means(
    policy: LogProbs,
    reference: LogProbs,
    points: Points,
    imitated_M: Tensor,
    *,
    beta: float = 0.1,
    continuous: bool = False,
    per_token: bool = True,
    log_z: float = 0.0,
) -> Loss:
    """The mean of ULMA's loss over imitated responses, plus its mean over the others.

    Imitated are demonstrations and, in the binary form, labels of exactly 1
    (https://github.com/Unified-Language-Model-Alignment/src). The fewer a batch holds of one group, the more each
    of it counts. With M responses in the step and m of them in its group, a response's loss is multiplied by M / m,
    so that the mean over all is the sum of the two means; the mean over an empty group is 0.

    Args:
        imitated_M: [M, 1] 1 for each imitated response of the whole step, 0 for the others (`imitated`).
        policy, reference, points, beta, continuous, per_token, log_z: as in `ulma`.

    Returns:
        Loss over [N] responses.
    """
    loss = ulma(policy, reference, points, beta=beta, continuous=continuous, per_token=per_token, log_z=log_z)
    total, first = imitated_M.numel(), imitated_M.sum()
    first_N = imitated(points, continuous=continuous)[:, 0] == 1
    size_N = torch.where(first_N, first, total - first).to(loss.per_example.dtype)
    return replace(loss, per_example=loss.per_example * (total / size_N))


def imitated(points: Points, *, continuous: bool) -> Tensor:
    """[N, 1] 1 for each response that is imitated, 0 for the others."""
    first_N = points.demonstration_N if continuous else points.demonstration_N | (points.label_N == 1)
    return first_N.double()[:, None]
