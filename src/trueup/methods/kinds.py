"""Kinds of methods: how those of one kind are put together, and the settings and texts they share.
Each function holds the view and the index of its kind and takes what differs, so that a type checker refuses it a loss
over another index, or one that needs a reference without it. A setting of one method alone is described in its
docstring, those of several here. Torch is imported only when a method is made."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Literal

from pydantic import Field

from trueup import objectives
from trueup.feedback import views
from trueup.feedback.labels import Scale
from trueup.feedback.records import DemonstrationRelation, PointRelation, View
from trueup.feedback.transforms import Transform
from trueup.methods.method import Collate, ExamplesCheck, Index, Method, Objective, P, R, Ref, method
from trueup.references.choices import AnyReference, Frozen, NoReference, ReferenceChoice, TrustRegion

if TYPE_CHECKING:
    from torch import Tensor

    from trueup.batch import rows
    from trueup.objectives.loss import Loss, Measurement, StepObjective
    from trueup.objectives.rollout import Rollout

__all__ = ["AnyReference", "Frozen", "Method", "NoReference", "TrustRegion", "method", "objectives", "views"]
"""What a method's file needs that stands elsewhere."""
PAIRS = "pairs, or anything that orders two responses to one prompt"
OF_PAIRS: Mapping[str, Any] = {"feedback": PAIRS, "defaults": {"learning_rate": 1e-6}, "least_responses": 2}
"""Of most methods that learn from pairs; the rate is that of DPO's code."""
THUMBS = "labelled responses (thumbs up and down); pairs count as one of each"
REWARDS = "responses with scores; or with labels; or pairs, chosen 1 and rejected 0"
REWARDED_PROMPTS = "prompts, and a reward that scores the policy's responses to them"
JUDGED_PROMPTS = "prompts, and an annotator that compares or scores the policy's responses to them"
GATHERED = ("online", "replay")  # sources of a method that learns from what the policy has just written

POINT_FIGURES = ("loss", "rewards/chosen", "rewards/rejected", "kl")
IMITATION_FIGURES = ("loss", "logps/demonstrations", "grad_norm")
WEIGHTED_FIGURES = ("loss", "weights/effective_share", "grad_norm")

LABEL_DEFAULTS: Mapping[str, object] = {"learning_rate": 1e-5, "schedule": "cosine", "batch_size": 64, "epochs": 3.0}
"""Of a run with labelled responses (Cai et al., 2023, https://arxiv.org/abs/2312.02554)."""
REWARD_DEFAULTS: Mapping[str, object] = {
    "learning_rate": 5e-6,
    "schedule": "constant",
    "batch_size": 128,
    "adam_beta2": 0.95,
    "weight_decay": 0.01,
}
"""Of a run with rewards on one scale (Hu et al., 2023, https://arxiv.org/abs/2308.12050), from the first author's code
in NeMo-Aligner."""

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
ClipRange = Annotated[float, Field(gt=0, lt=1)]
WrongShare = Annotated[float, Field(ge=0, lt=0.5)]  # of pairs in the wrong order
SomeShare = Annotated[float, Field(gt=0, lt=0.5)]
SomeOrAll = Annotated[float, Field(gt=0, le=1)]
Divergence = Literal["forward-kl", "js", "alpha"]
Several = Annotated[int, Field(ge=2)]
MarginLoss = Literal["hinge", "logistic"]
AdvantageScale = Literal["group", "round", "none"]
AverageOver = Literal["responses", "tokens", "constant"]
Decimals = Annotated[int, Field(ge=0, le=6)]

Beta = Annotated[float, Field(gt=0, description="Strength of the KL constraint; larger stays closer to the reference.")]
"""A finite number greater than 0."""
PerToken = Annotated[bool, Field(description="Average over the tokens of a batch; false averages over its responses.")]
PerTokenGap = Annotated[
    bool, Field(description="Divide each log-ratio by the tokens of its response, as TRL does; false sums over them.")
]
SFTWeight = Annotated[
    float,
    Field(
        ge=0,
        description="Weight of imitating chosen responses beside the loss of each pair, per token of the response.",
    ),
]

DesirableWeight = Annotated[float, Field(gt=0, description="Weight of desirable responses.")]
UndesirableWeight = Annotated[float, Field(gt=0, description="Weight of undesirable responses.")]
DesirableFrom = Annotated[
    float | None,
    Field(description="Score from which a response without a label is desirable. Left out: scores are not labels."),
]
LabelScale = Annotated[
    Scale,
    Field(
        description="How scores become labels: none leaves them alone; min-max over the training data; range from "
        "score_low to score_high; sigmoid of the standardised score."
    ),
]
ScoreLow = Annotated[float | None, Field(description="Score that is the label 0, for scale range.")]
ScoreHigh = Annotated[float | None, Field(description="Score that is the label 1, for scale range.")]
Continuous = Annotated[
    bool, Field(description="Labels are grades to fit by least squares; false takes them as probabilities.")
]
PerTokenRatio = Annotated[
    bool, Field(description="Log-probabilities per token, as in the authors' code; false sums over the tokens.")
]
LogZ = Annotated[float, Field(description="beta log Z(x), taken as a constant; added to every reward.")]
RewardMean = Annotated[
    float | None, Field(description="Mean that is taken off every reward. Left out: that of the training data.")
]
RewardStd = Annotated[
    Positive | None,
    Field(description="Standard deviation that every reward is divided by. Left out: that of the training data."),
]
KLCoef = Annotated[
    float,
    Field(ge=0, description="beta of the KL penalty in the reward: beta log(pi / pi_ref) is taken off every token's."),
]
Gamma = Annotated[float, Field(ge=0, le=1, description="Discount of later rewards; 1 counts them all alike.")]
ValueWeight = Annotated[
    float, Field(ge=0, description="Weight of the value head's loss, which trains the policy's body too.")
]
LogitTemperature = Annotated[
    float,
    Field(
        gt=0,
        description="Logits are divided by it before they are learned from. Policy and reference alike; TRL gives "
        "the temperature that responses are drawn at.",
    ),
]
MissingEndPenalty = Annotated[
    float, Field(ge=0, description="Taken off the score of a response that ran out of tokens before its end.")
]


def with_settings(
    loss: Callable[Concatenate[Any, Ref, Index, P], Loss], *none: P.args, **settings: P.kwargs
) -> Callable[[Any, Ref, Index], Loss]:
    """An objective with its settings, given by keyword: `partial`, with its types kept."""
    objective: Callable[..., Loss] = loss
    return partial(objective, *none, **settings)


def over_step(
    measurement: Measurement, loss: Callable[Concatenate[Any, Ref, Index, Tensor, P], Loss], *none: P.args,
    **settings: P.kwargs,
) -> StepObjective[Ref, Index]:  # fmt: skip
    """As `with_settings`, of an objective that is given something measured over the whole step."""
    objective: Callable[..., Loss] = loss
    return objectives.loss.StepObjective(measurement, partial(objective, *none, **settings))


def pairwise(
    loss: Objective[Ref, rows.Pairs], reference: ReferenceChoice[Ref], sft_weight: float = 0.0, *,
    parts: tuple[rows.Part, ...] = (), mixture: float = 0.0,
) -> Method:  # fmt: skip
    """Learn which of two responses to a prompt is better, relative to a reference where there is one."""
    from trueup.batch.rows import Pairs

    beside_sft = objectives.sft.beside_sft
    if isinstance(loss, objectives.loss.StepObjective):
        loss = replace(loss, objective=partial(beside_sft, loss.objective, sft_weight)) if sft_weight else loss
    elif sft_weight:
        loss = partial(beside_sft, loss, sft_weight)
    return Method(views.pairs, Pairs.collate, loss, reference, parts=parts, mixture=mixture)


def pointwise(
    loss: Objective[rows.LogProbs, rows.Points], reference: ReferenceChoice[rows.LogProbs], *,
    view: View[PointRelation] = views.points, transform: Transform, check: ExamplesCheck,
    stratum: Callable[[PointRelation], Hashable] | None = None,
) -> Method:  # fmt: skip
    """Learn from responses labelled one by one, relative to a reference."""
    from trueup.batch.rows import Points

    return Method(view, Points.collate, loss, reference, transforms=(transform,), checks=(check,), stratum=stratum)


def policy_gradient(
    loss: Objective[Any, rows.Rollouts], reference: ReferenceChoice[rows.LogProbs], rollout: Rollout, *,
    least_responses: int = 1, parts: tuple[rows.Part, ...] = (), temperature: float = 1.0,
    reference_in_loss: bool = False,
) -> Method:  # fmt: skip
    """Learn from the rewards of what the policy has just written; the reference goes into these, or into the loss."""
    from trueup.batch.rows import Rollouts

    view = partial(views.scored, least=least_responses)
    made: Method[Any, rows.Rollouts, Any] = Method(
        view, Rollouts.collate, loss, reference, parts=parts, reference_in_loss=reference_in_loss,
        temperature=temperature, rollout=rollout,
    )  # fmt: skip
    return made


def without_reference(
    view: View[R], collate: Collate[R, Index], loss: Objective[None, Index], *,
    transforms: tuple[Transform, ...] = (), checks: tuple[ExamplesCheck, ...] = (),
    output: Literal["log-probs", "scores"] = "log-probs",
) -> Method:  # fmt: skip
    """Learn from any kind of feedback, measured against nothing."""
    return Method(view, collate, loss, NoReference(), transforms=transforms, checks=checks, output=output)


def imitation(
    *, per_token: bool, view: View[DemonstrationRelation] = views.demonstrations, transforms: tuple[Transform, ...] = ()
) -> Method:
    """Make the responses that the view keeps likelier, all alike."""
    from trueup.batch.rows import Demonstrations

    loss = with_settings(objectives.sft.sft, per_token=per_token)
    return without_reference(view, Demonstrations.collate, loss, transforms=transforms)


def measured_of_labels(settings: Any) -> str:
    """What is measured over all of the training data (`MethodInfo.measures`)."""
    what = {"min-max": "the lowest and the highest score", "sigmoid": "the mean and standard deviation of all scores"}
    found = what.get(settings.scale, "")
    return f"{found} (scale {settings.scale}); give scale range with score_low and score_high" if found else ""


def measured_of_rewards(settings: Any) -> str:
    """What is measured over all of the training data (`MethodInfo.measures`)."""
    absent = [name for name in ("reward_mean", "reward_std") if getattr(settings, name) is None]
    what = {"reward_mean": "the mean", "reward_std": "the standard deviation"}
    return (
        f"{' and '.join(what[name] for name in absent)} of all rewards; give {' and '.join(absent)}" if absent else ""
    )
