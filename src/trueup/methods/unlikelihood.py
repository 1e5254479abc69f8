"""Unlikelihood training. Welleck et al., 2019, https://arxiv.org/abs/1908.04319."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.label_checks import check_classes
from trueup.feedback.records import PointRelation
from trueup.methods.method import Method, method
from trueup.references.choices import NoReference

if TYPE_CHECKING:
    from trueup.batch.index import Points

Weight = Annotated[float, Field(ge=0, description="Weight of making undesirable responses less likely.")]
Ascent = Annotated[
    bool,
    Field(
        description="Lower the log-likelihood per token of undesirable responses, without bound, as the authors "
        "of ULMA do; false makes each of their tokens less likely."
    ),
]


@method(
    name="unlikelihood",
    title="Unlikelihood training",
    formula="-z log p(response) - weight (1 - z) sum over tokens of log(1 - p(token)), or, with ascent, "
    "(weight (1 - z) - z) times log p per token; z the label",
    paper="Welleck et al., 2019, https://arxiv.org/abs/1908.04319",
    feedback="labelled responses (thumbs or grades); demonstrations count as thumbs up",
    defaults={"learning_rate": 1e-5, "schedule": "cosine", "batch_size": 64, "epochs": 3.0},
)
def unlikelihood(*, weight: Weight = 1.0, ascent: Ascent = False) -> Method[PointRelation, Points, None]:
    """Imitate desirable responses, and make the tokens of undesirable ones less likely; no reference."""
    from trueup.batch.index import Points
    from trueup.objectives.unlikelihood import unlikelihood as by_token
    from trueup.objectives.unlikelihood import unlikelihood_ascent as by_ascent

    loss = partial(by_ascent if ascent else by_token, weight=weight)
    return Method(views.points, Points.collate, loss, NoReference(), checks=(check_classes,))
