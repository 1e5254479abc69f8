"""Reward-weighted regression. Peters and Schaal, 2007; Hu et al., 2023, https://arxiv.org/abs/2308.12050."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.records import WeightRelation
from trueup.feedback.transforms.standardized_rewards import ExponentialWeights, StandardizedRewards
from trueup.methods.method import Method, method
from trueup.methods.sft import PerToken
from trueup.methods.shared import REWARD_DEFAULTS, RewardMean, RewardStd, measured_of_rewards
from trueup.references.choices import NoReference

if TYPE_CHECKING:
    from trueup.batch.index import Weighted

Temperature = Annotated[
    float,
    Field(
        gt=0,
        description="Temperature of the weights exp(r / beta); smaller trusts the best rewards more, until max_weight "
        "clips them.",
    ),
]
MaxWeight = Annotated[float, Field(gt=0, description="Weights are clipped to this.")]


@method(
    name="rwr",
    title="Reward-weighted regression",
    formula="-w log p(response | prompt) / sum of w, w = min(exp(r / beta), max_weight), r the standardised reward",
    paper="Hu et al., 2023, https://arxiv.org/abs/2308.12050",
    feedback="responses with scores; or with labels; or pairs, chosen 1 and rejected 0",
    defaults=REWARD_DEFAULTS,
    measures=measured_of_rewards,
)
def rwr(
    *,
    beta: Temperature = 1.0,
    max_weight: MaxWeight = 20.0,
    per_token: PerToken = True,
    reward_mean: RewardMean = None,
    reward_std: RewardStd = None,
) -> Method[WeightRelation, Weighted, None]:
    """Imitate every response, the better the more."""
    from trueup.batch.index import Weighted
    from trueup.objectives.sft import weighted_sft, weights
    from trueup.objectives.step_objective import OfIndex, StepObjective

    return Method(
        views.weighted_demonstrations,
        Weighted.collate,
        StepObjective(OfIndex(weights), partial(weighted_sft, per_token=per_token)),
        NoReference(),
        transforms=(ExponentialWeights(beta, max_weight, StandardizedRewards(reward_mean, reward_std)),),
    )
