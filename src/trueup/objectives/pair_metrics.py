"""The metrics every pairwise objective reports, under the names people chart."""

from torch import Tensor

from trueup.batch.index import Pairs
from trueup.batch.logprobs import LogProbs


def pair_metrics(policy: LogProbs, reward_N: Tensor, pairs: Pairs) -> dict[str, Tensor]:
    """Rewards, margins, accuracies and log-probabilities of P pairs.

    Args:
        policy: N responses.
        reward_N: [N] the objective's implicit reward of each response.
        pairs: P pairs among the N rows.

    Returns:
        Detached [P] values. `rewards/accuracies` counts a zero margin as wrong: a policy that equals its
        reference has learned nothing yet.
    """
    reward_N, log_prob_N = reward_N.detach(), policy.sum.detach()
    margin_P = reward_N[pairs.chosen_P] - reward_N[pairs.rejected_P]
    return {
        "rewards/chosen": reward_N[pairs.chosen_P],
        "rewards/rejected": reward_N[pairs.rejected_P],
        "rewards/margins": margin_P,
        "rewards/accuracies": (margin_P > 0).to(margin_P.dtype),
        "logps/chosen": log_prob_N[pairs.chosen_P],
        "logps/rejected": log_prob_N[pairs.rejected_P],
    }
