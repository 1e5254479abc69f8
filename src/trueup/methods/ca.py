from typing import Any, Literal

from trueup.feedback.transforms import StandardizedRewards, WrittenReward
from trueup.methods import kinds


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
    *, condition: str = " <rm_score>: {reward} ", decimals: kinds.Decimals = 1,
    position: Literal["end", "start"] = "end", ask_for: float | None = None, per_token: kinds.PerToken = True,
    reward_mean: kinds.RewardMean = None, reward_std: kinds.RewardStd = None,
) -> kinds.Method:  # fmt: skip
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
