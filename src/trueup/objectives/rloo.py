"""REINFORCE with a leave-one-out baseline. Ahmadian et al., 2024, https://arxiv.org/abs/2402.14740.

Shape suffixes: N rows (responses), S scored tokens of all rows.
"""

import torch

from trueup.batch.logprobs import LogProbs
from trueup.batch.rollouts import Rollouts
from trueup.objectives.advantages.ragged import row_sums
from trueup.objectives.loss import Loss
from trueup.objectives.policy_change import approximate_kl, log_ratios


def rloo(policy: LogProbs, reference: LogProbs | None, rollouts: Rollouts) -> Loss:
    """-A log pi(y | x), A = R - mean of the R of the other responses to the prompt.

    Args:
        policy: N responses; a response is one action, so that its log-probabilities are summed.
        reference: not used; it has gone into the rewards.
        rollouts: of every token, its response's advantage A.

    Returns:
        Loss over [N] responses.
    """
    log_ratio_S = log_ratios(policy, rollouts)
    dtype = log_ratio_S.dtype
    loss_N = row_sums(-rollouts.advantage_S.to(dtype) * policy.token_S.to(dtype), policy.length_N)
    metrics = {"policy/approxkl": approximate_kl(log_ratio_S)}
    rows_N = torch.arange(policy.num_rows, device=loss_N.device)
    return Loss(loss_N, torch.ones_like(loss_N), rows_N, metrics)
