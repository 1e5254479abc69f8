"""Making responses likelier: of demonstrations, and by the rewards of responses."""

from functools import partial
from typing import Any, Literal

from trueup.errors import InputError
from trueup.feedback import views
from trueup.feedback.transforms import ExponentialWeights, MergedPrompts, StandardizedRewards, WrittenReward
from trueup.methods import kinds
from trueup.methods.kinds import Method


@kinds.method(
    name="sft",
    title="Supervised fine-tuning",
    formula="-log p(response | prompt)",
    feedback="demonstrations; of pairs and rankings, the best response",
    defaults={"learning_rate": 1e-5},
    trl_loss="nll",
    figures=kinds.IMITATION_FIGURES,
)
def sft(*, per_token: kinds.PerToken = True) -> Method:
    """Raise the likelihood of demonstrations."""
    return kinds.imitation(per_token=per_token)


def measured_with_condition(settings: Any) -> str:
    """What is measured over all of the training data (`MethodInfo.measures`)."""
    found = kinds.measured_of_rewards(settings)
    if settings.ask_for is None:
        return f"{found} and ask_for" if found else "the 99th percentile of all rewards; give ask_for"
    return found


@kinds.method(
    name="ca",
    title="Conditional alignment",
    formula="-log p(response | prompt with the response's standardised reward written into it)",
    paper="Hu et al., 2023, https://arxiv.org/abs/2308.12050",
    feedback=kinds.REWARDS,
    aliases=("dt", "decision-transformer"),
    defaults=kinds.REWARD_DEFAULTS,
    measures=measured_with_condition,
    figures=kinds.IMITATION_FIGURES,
)
def ca(
    *,
    condition: str = " <rm_score>: {reward} ",
    decimals: kinds.Decimals = 1,
    position: Literal["end", "start"] = "end",
    ask_for: float | None = None,
    per_token: kinds.PerToken = True,
    reward_mean: kinds.RewardMean = None,
    reward_std: kinds.RewardStd = None,
) -> Method:
    """Learn good and bad responses alike, each told how good it is, and ask for a good one.

    Args:
        condition: What is written into the prompt; {reward} stands for the number.
        decimals: Digits of the number after the point.
        position: Where it is written: after the prompt (in a conversation, its last message), or before it.
        ask_for: Standardised reward to ask the finished model for. Left out: the 99th percentile of training.
    """
    rewards = StandardizedRewards(reward_mean, reward_std)
    written = WrittenReward(condition, decimals, position, ask_for, rewards)
    return kinds.imitation(per_token=per_token, transforms=(written,))


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
    *,
    threshold: float = 0.0,
    best_of_n: bool = False,
    per_token: kinds.PerToken = True,
    reward_mean: kinds.RewardMean = None,
    reward_std: kinds.RewardStd = None,
) -> Method:
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
        return kinds.imitation(per_token=per_token, view=views.best_demonstrations, transforms=transforms)
    view = partial(views.filtered_demonstrations, threshold=threshold)
    return kinds.imitation(per_token=per_token, view=view, transforms=(rewards,))


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
    *,
    beta: kinds.Positive = 1.0,
    max_weight: kinds.Positive = 20.0,
    per_token: kinds.PerToken = True,
    reward_mean: kinds.RewardMean = None,
    reward_std: kinds.RewardStd = None,
) -> Method:
    """Imitate every response, the better the more.

    Args:
        beta: Temperature of the weights exp(r / beta); smaller trusts the best rewards more, until max_weight
            clips them.
        max_weight: Weights are clipped to this.
    """
    from trueup.batch.rows import Weighted
    from trueup.objectives import sft as objective

    return kinds.without_reference(
        views.weighted_demonstrations,
        Weighted.collate,
        kinds.over_step(objective.WEIGHTS, objective.weighted_sft, per_token=per_token),
        transforms=(ExponentialWeights(beta, max_weight, StandardizedRewards(reward_mean, reward_std)),),
    )
