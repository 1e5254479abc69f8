from trueup.feedback.transforms import ExponentialWeights, StandardizedRewards
from trueup.methods import kinds


@kinds.method(
    name="rwr",
    title="Reward-weighted regression",
    formula="-w log p(response | prompt) / sum of w, w = min(exp(r / beta), max_weight), r the standardised reward",
    paper="Hu et al., 2023, https://arxiv.org/abs/2308.12050",
    feedback=kinds.REWARDS,
    defaults=kinds.REWARD_DEFAULTS,
    measures=kinds.measured_of_rewards,
    figures=kinds.WEIGHTED_FIGURES,
)
def rwr(
    *, beta: kinds.Positive = 1.0, max_weight: kinds.Positive = 20.0, per_token: kinds.PerToken = True,
    reward_mean: kinds.RewardMean = None, reward_std: kinds.RewardStd = None,
) -> kinds.Method:  # fmt: skip
    """Imitate every response, the better the more.

    Args:
        beta: Temperature of the weights exp(r / beta); smaller trusts the best rewards more, until max_weight
            clips them.
        max_weight: Weights are clipped to this.
    """
    from trueup.batch.rows import Weighted

    return kinds.without_reference(
        kinds.views.weighted_demonstrations,
        Weighted.collate,
        kinds.over_step(kinds.objectives.sft.WEIGHTS, kinds.objectives.sft.weighted_sft, per_token=per_token),
        transforms=(ExponentialWeights(beta, max_weight, StandardizedRewards(reward_mean, reward_std)),),
    )
