"""Robust direct preference optimization. Chowdhury et al., 2024, https://arxiv.org/abs/2403.00409."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.records import PairRelation
from trueup.methods.method import Beta, Method, method
from trueup.references.choices import AnyReference, Frozen

if TYPE_CHECKING:
    from trueup.batch.index import Pairs
    from trueup.batch.logprobs import LogProbs

LabelSmoothing = Annotated[
    float,
    Field(ge=0, lt=0.5, description="Share of pairs whose order is wrong, which the loss makes up for."),
]


@method(
    name="robust-dpo",
    title="Robust DPO",
    formula="[-(1 - e) log sigmoid(m) + e log sigmoid(-m)] / (1 - 2 e), m the margin of DPO",
    paper="Chowdhury et al., 2024, https://arxiv.org/abs/2403.00409",
    feedback="pairs, or anything that orders two responses to one prompt",
    defaults={"learning_rate": 1e-6},
    trl_loss="robust",
    least_responses=2,
)
def robust_dpo(
    *, beta: Beta = 0.1, label_smoothing: LabelSmoothing = 0.1, reference: AnyReference = Frozen()
) -> Method[PairRelation, Pairs, LogProbs]:
    """DPO for pairs of which a known share is in the wrong order."""
    from trueup.batch.index import Pairs
    from trueup.objectives import dpo as objective

    loss = partial(objective.robust_dpo, beta=beta, label_smoothing=label_smoothing)
    return Method(views.pairs, Pairs.collate, loss, reference)
