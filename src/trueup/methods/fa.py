"""Filtering alignment. Hu et al., 2023, https://arxiv.org/abs/2308.12050."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trueup.errors import InputError
from trueup.feedback import views
from trueup.feedback.records import DemonstrationRelation
from trueup.feedback.transforms.merge_prompts import MergedPrompts
from trueup.feedback.transforms.standardized_rewards import StandardizedRewards
from trueup.methods.method import Method, method
from trueup.methods.sft import PerToken
from trueup.methods.shared import REWARD_DEFAULTS, RewardMean, RewardStd, measured_of_rewards
from trueup.references.choices import NoReference

if TYPE_CHECKING:
    from trueup.batch.index import Demonstrations

Threshold = Annotated[
    float, Field(description="Standardised reward above which a response is kept, not equal to it.")
]
BestOfN = Annotated[
    bool,
    Field(
        description="Keep the best response to each prompt instead, the first of equals; leave threshold out then."
    ),
]


@method(
    name="fa",
    title="Filtering alignment",
    formula="-log p(response | prompt) on the responses whose standardised reward is above the threshold",
    paper="Hu et al., 2023, https://arxiv.org/abs/2308.12050",
    feedback="responses with scores; or with labels; or pairs, chosen 1 and rejected 0",
    aliases=("mle-filtering",),
    defaults=REWARD_DEFAULTS,
    measures=measured_of_rewards,
)
def fa(
    *,
    threshold: Threshold = 0.0,
    best_of_n: BestOfN = False,
    per_token: PerToken = True,
    reward_mean: RewardMean = None,
    reward_std: RewardStd = None,
) -> Method[DemonstrationRelation, Demonstrations, None]:
    """Imitate the good responses and leave the others out."""
    if best_of_n and threshold != 0:
        raise InputError(
            f"threshold {threshold:g} with best_of_n true: the best response to each prompt is kept whatever its "
            "reward. Leave one of them out"
        )
    from trueup.batch.index import Demonstrations
    from trueup.objectives import sft as objective

    rewards = StandardizedRewards(reward_mean, reward_std)
    return Method(
        views.best_demonstrations
        if best_of_n
        else partial(views.filtered_demonstrations, threshold=threshold),
        Demonstrations.collate,
        partial(objective.sft, per_token=per_token),
        NoReference(),
        transforms=(rewards, MergedPrompts()) if best_of_n else (rewards,),
    )
