"""Maximum likelihood on demonstrations."""

import torch

from trueup.batch.index import Demonstrations
from trueup.batch.logprobs import LogProbs
from trueup.objectives.loss import Loss


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
