"""Unified language model alignment. Cai et al., 2023, https://arxiv.org/abs/2312.02554."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.groups import PointRelation
from trueup.methods.method import Beta, Method, method
from trueup.references.choices import AnyReference, Frozen

if TYPE_CHECKING:
    from trueup.batch.index import Points
    from trueup.batch.logprobs import LogProbs

Continuous = Annotated[
    bool,
    Field(description="Labels are grades to fit by least squares; false takes them as probabilities."),
]


@method(
    name="ulma",
    title="Unified language model alignment",
    formula="-z log p(response) - (1 - z) log(1 - sigmoid(beta log-ratio)); z = 1 on demonstrations",
    paper="Cai et al., 2023, https://arxiv.org/abs/2312.02554",
    feedback="labelled responses (thumbs or grades) and demonstrations, mixed",
    defaults={"learning_rate": 1e-5, "schedule": "cosine", "batch_size": 64, "epochs": 3.0},
)
def ulma(
    *, beta: Beta = 0.1, continuous: Continuous = False, reference: AnyReference = Frozen()
) -> Method[PointRelation, Points, LogProbs]:
    """Imitate demonstrations and thumbs up; push the rest below the reference, as far as beta allows."""
    from trueup.batch.index import Points
    from trueup.objectives import ulma as objective

    loss = partial(objective.ulma, beta=beta, continuous=continuous)
    return Method(views.points_with_demonstrations, Points.collate, loss, reference)
