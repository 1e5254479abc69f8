"""Point-wise DPO. Cai et al., 2023, https://arxiv.org/abs/2312.02554."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

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


@method(
    name="pointwise-dpo",
    title="Point-wise DPO",
    formula="-z log sigmoid(s) - (1 - z) log(1 - sigmoid(s)), or, continuous, (z - s)^2; s = beta log-ratio",
    paper="Cai et al., 2023, https://arxiv.org/abs/2312.02554",
    feedback="labelled responses (thumbs or grades); scores with --scale; pairs count as one of each",
    defaults={"learning_rate": 1e-5, "schedule": "cosine", "batch_size": 64, "epochs": 3.0},
    measures=shared.measured_of_labels,
)
def pointwise_dpo(
    *,
    beta: Beta = 0.1,
    continuous: shared.Continuous = False,
    scale: shared.LabelScale = "none",
    score_low: shared.ScoreLow = None,
    score_high: shared.ScoreHigh = None,
    per_token: shared.PerTokenRatio = False,
    log_z: shared.LogZ = 0.0,
    reference: AnyReference = Frozen(),
) -> Method[PointRelation, Points, LogProbs]:
    """Move the implicit reward of every response towards its label."""
    from trueup.batch.index import Points
    from trueup.objectives import pointwise_dpo as objective

    loss = partial(
        objective.pointwise_dpo, beta=beta, continuous=continuous, per_token=per_token, log_z=log_z
    )
    return Method(
        views.points,
        Points.collate,
        loss,
        reference,
        transforms=(GradedLabels(scale, score_low, score_high),),
        checks=(check_classes,),
    )
