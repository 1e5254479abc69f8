"""Conditional alignment. Hu et al., 2023, https://arxiv.org/abs/2308.12050."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.records import DemonstrationRelation
from trueup.feedback.transforms.standardized_rewards import StandardizedRewards, WrittenReward
from trueup.methods.method import Method, method
from trueup.methods.sft import PerToken
from trueup.methods.shared import REWARD_DEFAULTS, RewardMean, RewardStd, measured_of_rewards
from trueup.references.choices import NoReference

if TYPE_CHECKING:
    from trueup.batch.index import Demonstrations

Text = Annotated[str, Field(description="What is written into the prompt; {reward} stands for the number.")]
Decimals = Annotated[int, Field(ge=0, le=6, description="Digits of the number after the point.")]
Position = Annotated[
    Literal["end", "start"],
    Field(
        description="Where it is written: after the prompt (in a conversation, its last message), or before it."
    ),
]
AskFor = Annotated[
    float | None,
    Field(
        description="Standardised reward to ask the finished model for. Left out: the 99th percentile of training."
    ),
]


def measured_with_condition(settings: Any) -> str:
    """What is measured over all of the training data (`MethodInfo.measures`)."""
    found = measured_of_rewards(settings)
    if settings.ask_for is None:
        return f"{found} and ask_for" if found else "the 99th percentile of all rewards; give ask_for"
    return found


@method(
    name="ca",
    title="Conditional alignment",
    formula="-log p(response | prompt with the response's standardised reward written into it)",
    paper="Hu et al., 2023, https://arxiv.org/abs/2308.12050",
    feedback="responses with scores; or with labels; or pairs, chosen 1 and rejected 0",
    aliases=("dt", "decision-transformer"),
    defaults=REWARD_DEFAULTS,
    measures=measured_with_condition,
)
def ca(
    *,
    condition: Text = " <rm_score>: {reward} ",
    decimals: Decimals = 1,
    position: Position = "end",
    ask_for: AskFor = None,
    per_token: PerToken = True,
    reward_mean: RewardMean = None,
    reward_std: RewardStd = None,
) -> Method[DemonstrationRelation, Demonstrations, None]:
    """Learn good and bad responses alike, each told how good it is, and ask for a good one."""
    from trueup.batch.index import Demonstrations
    from trueup.objectives import sft as objective

    rewards = StandardizedRewards(reward_mean, reward_std)
    return Method(
        views.demonstrations,
        Demonstrations.collate,
        partial(objective.sft, per_token=per_token),
        NoReference(),
        transforms=(WrittenReward(condition, decimals, position, ask_for, rewards),),
    )
