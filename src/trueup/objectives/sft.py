"""Maximum likelihood on demonstrations, all alike or each with a weight."""

from collections.abc import Callable
from dataclasses import replace

import torch

from trueup.batch.rows import Demonstrations, LogProbs, Pairs, Weighted
from trueup.objectives.loss import Loss, Measurement


def sft(policy: LogProbs, reference: None, demonstrations: Demonstrations, *, per_token: bool = True) -> Loss:
    """-log p(y | x).

    Args:
        policy: N responses.
        reference: not used.
        demonstrations: says that every row is to be imitated.
        per_token: divide by the number of response tokens of the whole batch, as is usual for supervised
            fine-tuning; False divides by the number of responses (a sum over the tokens of each).

    Returns:
        Loss over [N] responses.
    """
    nll_N = -policy.sum
    weight_N = (policy.length_N if per_token else torch.ones_like(policy.length_N)).to(nll_N.dtype)
    return Loss.of_rows(nll_N, {"logps/demonstrations": policy.sum.detach()}, weight_N=weight_N)


def beside_sft(
    objective: Callable[..., Loss],
    weight: float,
    policy: LogProbs,
    reference: LogProbs | None,
    pairs: Pairs,
    *measured: torch.Tensor,
) -> Loss:
    """A pair's loss - weight log pi(chosen) / |chosen|. Pang et al., 2024, https://arxiv.org/abs/2404.19733, Eq. 1.

    Args:
        objective: the loss of pairs, which is given all that follows it.
        weight: alpha in the paper; of a chosen response's mean over its tokens.

    Returns:
        Loss over [P] pairs, each weighing what it did.
    """
    loss = objective(policy, reference, pairs, *measured)
    nll_P = -policy.mean[pairs.chosen_P]
    metrics = {**loss.metrics, "loss/sft": nll_P.detach()}
    return replace(loss, per_example=loss.per_example + weight * nll_P, metrics=metrics)


def weighted_sft(
    policy: LogProbs, reference: None, weighted: Weighted, weights_M: torch.Tensor, *, per_token: bool = True
) -> Loss:
    """-w log p(y | x), divided by the sum of the weights of the whole batch.

    Args:
        policy: N responses.
        reference: not used.
        weighted: a weight per row, at least 0; no gradient flows through it.
        weights_M: [M, 1] the weights of the whole step (`weights`), for the effective sample size.
        per_token: weigh every token of a response and divide by the weighted number of tokens; False takes the sum
            over the tokens of a response and divides by the weights of the responses.

    Returns:
        Loss over [N] responses.
    """
    weight_N = weighted.weight_N.to(policy.sum.dtype)
    counted_N = weight_N * policy.length_N if per_token else weight_N
    size = effective_sample_size(weights_M[:, 0])
    metrics = {
        "logps/demonstrations": policy.sum.detach(),
        "weights/mean": weight_N,
        "weights/effective_sample_size": size.reshape(1),
        "weights/effective_share": (size / weights_M.numel()).reshape(1),
    }
    return Loss.of_rows(-weight_N * policy.sum, metrics, weight_N=counted_N)


def weights(weighted: Weighted) -> torch.Tensor:
    """[N, 1] the weights of N rows."""
    return weighted.weight_N[:, None]


WEIGHTS = Measurement(lambda rows: map(weights, rows.indexes()))
"""Those of the step, for `weighted_sft`."""


def effective_sample_size(weight_M: torch.Tensor) -> torch.Tensor:
    """(sum w)^2 / sum w^2: how many equally weighted responses would tell as much; Kish, 1965."""
    return weight_M.sum() ** 2 / (weight_M**2).sum()
