"""How far a policy has moved from the one that wrote the responses.

Shape suffix: S scored tokens of all rows.
"""

import torch
from torch import Tensor

from trueup.batch.logprobs import LogProbs
from trueup.batch.rollouts import Rollouts

LIMIT = 20.0
"""Nats a token beyond which a ratio is not computed: it has long been clipped, and its exponential would run over."""


def log_ratios(policy: LogProbs, rollouts: Rollouts) -> Tensor:
    """[S] log pi - log pi_old of each token, in nats, within plus and minus 20; float32 at least."""
    token_S = policy.token_S.to(torch.promote_types(policy.token_S.dtype, torch.float32))
    return (token_S - rollouts.old_log_prob_S.to(token_S.dtype)).clamp(-LIMIT, LIMIT)


def approximate_kl(log_ratio_S: Tensor) -> Tensor:
    """[S] ratio - 1 - log ratio, at least 0, whose mean over tokens that the old policy wrote is KL(old || new).

    Schulman, 2020, http://joschu.net/blog/kl-approx.html (k3).
    """
    change_S = log_ratio_S.detach()
    return change_S.expm1() - change_S
