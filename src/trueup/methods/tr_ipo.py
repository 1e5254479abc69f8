"""Trust-region IPO: IPO whose reference follows the policy. Gorbatovski et al., 2024, arXiv 2404.09656."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.groups import PairRelation
from trueup.methods.method import Beta, Method, method
from trueup.references.choices import TrustRegion

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
    name="tr-ipo",
    title="Trust-region IPO",
    formula="IPO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback="pairs, or anything that orders two responses to one prompt",
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="ipo",
)
def tr_ipo(
    *,
    beta: Beta = 0.05,
    per_token: PerToken = False,
    reference: TrustRegion = TrustRegion(alpha=0.6, every=512),
) -> Method[PairRelation, Pairs, LogProbs]:
    """IPO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    from trueup.batch.index import Pairs
    from trueup.objectives import ipo as objective

    return Method(
        views.pairs, Pairs.collate, partial(objective.ipo, beta=beta, per_token=per_token), reference
    )
