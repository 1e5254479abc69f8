"""Direct preference optimization. Rafailov et al., 2023, https://arxiv.org/abs/2305.18290."""

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
    Field(ge=0, lt=0.5, description="Share of pairs whose order is taken to be wrong; above 0 it is cDPO."),
]


@method(
    name="dpo",
    title="Direct preference optimization",
    formula="-log sigmoid(beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="Rafailov et al., 2023, https://arxiv.org/abs/2305.18290",
    feedback="pairs, or anything that orders two responses to one prompt",
    defaults={"learning_rate": 1e-6},
    trl_loss="sigmoid",
    least_responses=2,
)
def dpo(
    *, beta: Beta = 0.1, label_smoothing: LabelSmoothing = 0.0, reference: AnyReference = Frozen()
) -> Method[PairRelation, Pairs, LogProbs]:
    """Raise the likelihood of chosen responses over rejected ones, relative to a reference."""
    from trueup.batch.index import Pairs
    from trueup.objectives import dpo as objective

    loss = partial(objective.dpo, beta=beta, label_smoothing=label_smoothing)
    return Method(views.pairs, Pairs.collate, loss, reference)
