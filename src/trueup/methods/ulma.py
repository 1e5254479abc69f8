"""Unified language model alignment. Cai et al., 2023, https://arxiv.org/abs/2312.02554."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.label_checks import check_classes
from trueup.feedback.records import PointRelation
from trueup.feedback.transforms.graded_labels import GradedLabels
from trueup.methods import shared
from trueup.methods.method import Beta, Method, method
from trueup.references.choices import AnyReference, Frozen

if TYPE_CHECKING:
    from trueup.batch.index import Points
    from trueup.batch.logprobs import LogProbs

GroupMeans = Annotated[
    bool,
    Field(
        description="Add the mean over imitated responses and the mean over the others, as in the authors' code; false "
        "takes the mean over all."
    ),
]


@method(
    name="ulma",
    title="Unified language model alignment",
    formula="-z log p(response) - (1 - z) log(1 - sigmoid(s)), or, continuous, (z - s)^2; s = beta log-ratio; "
    "-log p(response) on demonstrations",
    paper="Cai et al., 2023, https://arxiv.org/abs/2312.02554",
    feedback="labelled responses (thumbs or grades; scores with --scale) and demonstrations, mixed",
    defaults={"learning_rate": 1e-5, "schedule": "cosine", "batch_size": 64, "epochs": 3.0},
    measures=shared.measured_of_labels,
)
def ulma(
    *,
    beta: Beta = 0.1,
    continuous: shared.Continuous = False,
    scale: shared.LabelScale = "none",
    score_low: shared.ScoreLow = None,
    score_high: shared.ScoreHigh = None,
    demonstration_from: shared.DemonstrationFrom = None,
    group_means: GroupMeans = False,
    per_token: shared.PerTokenRatio = False,
    log_z: shared.LogZ = 0.0,
    reference: AnyReference = Frozen(),
) -> Method[PointRelation, Points, LogProbs]:
    """Imitate demonstrations and thumbs up; push the rest below the reference, as far as beta allows."""
    from trueup.batch.index import Points
    from trueup.objectives import ulma as objective
    from trueup.objectives.step_objective import OfIndex, StepObjective

    given: dict[str, Any] = {
        "beta": beta,
        "continuous": continuous,
        "per_token": per_token,
        "log_z": log_z,
    }
    means: StepObjective[LogProbs, Points] = StepObjective(
        OfIndex(partial(objective.imitated, continuous=continuous)),
        partial(objective.ulma_group_means, **given),
    )
    return Method(
        views.points_with_demonstrations,
        Points.collate,
        means if group_means else partial(objective.ulma, **given),
        reference,
        transforms=(GradedLabels(scale, score_low, score_high, demonstration_from),),
        checks=(check_classes,),
    )
