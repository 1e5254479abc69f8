"""Identity preference optimization. Azar et al., 2023, https://arxiv.org/abs/2310.12036."""

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

PerToken = Annotated[
    bool,
    Field(
        description="Divide each log-ratio by the tokens of its response, as TRL does; false sums over them."
    ),
]


@method(
    name="ipo",
    title="Identity preference optimization",
    formula="(log-ratio(chosen) - log-ratio(rejected) - 1/(2 beta))^2",
    paper="Azar et al., 2023, https://arxiv.org/abs/2310.12036",
    feedback="pairs, or anything that orders two responses to one prompt",
    defaults={"learning_rate": 1e-6},
    trl_loss="ipo",
    least_responses=2,
)
def ipo(
    *, beta: Beta = 0.1, per_token: PerToken = False, reference: AnyReference = Frozen()
) -> Method[PairRelation, Pairs, LogProbs]:
    """Pull the log-ratios of each pair 1 / (2 beta) apart, and no further."""
    from trueup.batch.index import Pairs
    from trueup.objectives import ipo as objective

    return Method(
        views.pairs, Pairs.collate, partial(objective.ipo, beta=beta, per_token=per_token), reference
    )
