"""Maximum likelihood on demonstrations, all alike or each with a weight."""

from collections.abc import Callable
from dataclasses import replace

import torch

from trueup.batch.rows import Demonstrations, LogProbs, Pairs, Weighted
from trueup.objectives.loss import Loss, Measurement


def sft(policy: LogProbs, reference: None, demonstrations: Demonstrations, *, per_token: bool = True) -> Loss:
    """-log p(y | x).
    Divided by the number of response tokens of the whole batch, as is usual for supervised fine-tuning; without
    `per_token` by the number of responses (a sum over the tokens of each)."""
    nll_N = -policy.sum
    weight_N = (policy.length_N if per_token else torch.ones_like(policy.length_N)).to(nll_N.dtype)
    return Loss.of_rows(nll_N, {"logps/demonstrations": policy.sum.detach()}, weight_N=weight_N)


def beside_sft(
    objective: Callable[..., Loss], weight: float, policy: LogProbs, reference: LogProbs | None, pairs: Pairs,
    *measured: torch.Tensor,
) -> Loss:  # fmt: skip
    """A pair's loss - weight log pi(chosen) / |chosen|. Pang et al., 2024, https://arxiv.org/abs/2404.19733, Eq. 1.
    The weight is alpha in the paper."""
    loss = objective(policy, reference, pairs, *measured)
    nll_P = -policy.mean[pairs.chosen_P]
    metrics = {**loss.metrics, "loss/sft": nll_P.detach()}
    return replace(loss, per_example=loss.per_example + weight * nll_P, metrics=metrics)


def weighted_sft(
    policy: LogProbs, reference: None, weighted: Weighted, weights_M: torch.Tensor, *, per_token: bool = True
) -> Loss:
    """-w log p(y | x), divided by the sum of the weights of the whole batch.
    `per_token` weighs every token of a response and divides by the weighted number of tokens; without, the sum over the
    tokens of a response is divided by the weights of the responses. No gradient flows through the weights; `weights_M`
    are [M, 1] those of the whole step (`weights`), for the effective sample size."""
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
    return weighted.weight_N[:, None]


WEIGHTS = Measurement(lambda rows: map(weights, rows.indexes()))  # those of the step, for `weighted_sft`


def effective_sample_size(weight_M: torch.Tensor) -> torch.Tensor:
    """(sum w)^2 / sum w^2: how many equally weighted responses would tell as much; Kish, 1965."""
    return weight_M.sum() ** 2 / (weight_M**2).sum()
