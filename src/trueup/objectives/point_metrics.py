"""The metrics every point-wise objective reports, under the names people chart."""

from torch import Tensor

from trueup.batch.index import Points
from trueup.batch.logprobs import LogProbs


def point_metrics(policy: LogProbs, reward_N: Tensor | None, points: Points) -> dict[str, Tensor]:
    """Rewards and log-probabilities of responses to raise and of the others.

    Args:
        policy: N responses.
        reward_N: [N] the objective's implicit reward of each response; None where it has none.
        points: a label and a demonstration flag per row.

    Returns:
        Detached values: `chosen` are demonstrations and labels above 1/2, `rejected` the rest.
    """
    log_prob_N = policy.sum.detach()
    good_N = points.demonstration_N | (points.label_N > 0.5)
    metrics = {
        "logps/chosen": log_prob_N[good_N],
        "logps/rejected": log_prob_N[~good_N],
        "logps/demonstrations": log_prob_N[points.demonstration_N],
    }
    if reward_N is not None:
        reward_N = reward_N.detach()
        metrics |= {"rewards/chosen": reward_N[good_N], "rewards/rejected": reward_N[~good_N]}
    return metrics
