from functools import partial

from trueup.errors import InputError
from trueup.feedback.transforms import MergedPrompts, StandardizedRewards
from trueup.methods import kinds


@kinds.method(
    name="fa",
    title="Filtering alignment",
    formula="-log p(response | prompt) on the responses whose standardised reward is above the threshold",
    paper="Hu et al., 2023, https://arxiv.org/abs/2308.12050",
    feedback=kinds.REWARDS,
    aliases=("mle-filtering",),
    defaults=kinds.REWARD_DEFAULTS,
    measures=kinds.measured_of_rewards,
    figures=kinds.IMITATION_FIGURES,
)
def fa(
    *, threshold: float = 0.0, best_of_n: bool = False, per_token: kinds.PerToken = True,
    reward_mean: kinds.RewardMean = None, reward_std: kinds.RewardStd = None,
) -> kinds.Method:  # fmt: skip
    """Imitate the good responses and leave the others out.

    Args:
        threshold: Standardised reward above which a response is kept, not equal to it.
        best_of_n: Keep the best response to each prompt instead, the first of equals; leave threshold out then.
    """
    if best_of_n and threshold != 0:
        raise InputError(
            f"threshold {threshold:g} with best_of_n true: the best response to each prompt is kept whatever its "
            "reward. Leave one of them out"
        )
    rewards = StandardizedRewards(reward_mean, reward_std)
    if best_of_n:
        transforms = (rewards, MergedPrompts())
        return kinds.imitation(per_token=per_token, view=kinds.views.best_demonstrations, transforms=transforms)
    view = partial(kinds.views.filtered_demonstrations, threshold=threshold)
    return kinds.imitation(per_token=per_token, view=view, transforms=(rewards,))
