"""Settings that several methods share: of labels, of rewards on one scale, of policy gradients."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from trueup.feedback.transforms.graded_labels import Scale

LabelScale = Annotated[
    Scale,
    Field(
        description="How scores become labels: none leaves them alone; min-max over the training data; range from "
        "score_low to score_high; sigmoid of the standardised score."
    ),
]
ScoreLow = Annotated[float | None, Field(description="Score that is the label 0, for scale range.")]
ScoreHigh = Annotated[float | None, Field(description="Score that is the label 1, for scale range.")]
DemonstrationFrom = Annotated[
    Annotated[float, Field(ge=0, le=1)] | None,
    Field(
        description="Responses labelled this or more count as demonstrations. Left out: only those marked as such."
    ),
]
Continuous = Annotated[
    bool,
    Field(description="Labels are grades to fit by least squares; false takes them as probabilities."),
]
PerTokenRatio = Annotated[
    bool,
    Field(description="Log-probabilities per token, as in the authors' code; false sums over the tokens."),
]
LogZ = Annotated[float, Field(description="beta log Z(x), taken as a constant; added to every reward.")]
RewardMean = Annotated[
    float | None,
    Field(description="Mean that is taken off every reward. Left out: that of the training data."),
]
RewardStd = Annotated[
    Annotated[float, Field(gt=0)] | None,
    Field(
        description="Standard deviation that every reward is divided by. Left out: that of the training data."
    ),
]
REWARD_DEFAULTS: Mapping[str, object] = {
    "learning_rate": 5e-6,
    "schedule": "constant",
    "batch_size": 128,
    "adam_beta2": 0.95,
    "weight_decay": 0.01,
}
"""Of a run with rewards on one scale (Hu et al., 2023, https://arxiv.org/abs/2308.12050), from the first author's code
in NeMo-Aligner."""
KLCoef = Annotated[
    float,
    Field(
        ge=0,
        description="beta of the KL penalty in the reward: beta log(pi / pi_ref) is taken off every token's.",
    ),
]
Gamma = Annotated[float, Field(ge=0, le=1, description="Discount of later rewards; 1 counts them all alike.")]
ValueWeight = Annotated[
    float, Field(ge=0, description="Weight of the value head's loss, which trains the policy's body too.")
]
MissingEndPenalty = Annotated[
    float, Field(ge=0, description="Taken off the score of a response that ran out of tokens before its end.")
]
ROLLOUT_SOURCES = ("online", "replay")
ROLLOUT_FEEDBACK = "prompts, and a reward that scores the policy's responses to them"


def measured_of_labels(settings: Any) -> str:
    """What is measured over all of the training data (`MethodInfo.measures`)."""
    what = {
        "min-max": "the lowest and the highest score",
        "sigmoid": "the mean and standard deviation of all scores",
    }
    found = what.get(settings.scale, "")
    return (
        f"{found} (scale {settings.scale}); give scale range with score_low and score_high" if found else ""
    )


def measured_of_rewards(settings: Any) -> str:
    """What is measured over all of the training data (`MethodInfo.measures`)."""
    absent = [name for name in ("reward_mean", "reward_std") if getattr(settings, name) is None]
    what = {"reward_mean": "the mean", "reward_std": "the standard deviation"}
    return (
        f"{' and '.join(what[name] for name in absent)} of all rewards; give {' and '.join(absent)}"
        if absent
        else ""
    )
