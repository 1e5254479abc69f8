"""Trust-region IPO: IPO whose reference follows the policy. Gorbatovski et al., 2024, arXiv 2404.09656."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trueup.feedback.records import PairRelation
from trueup.methods.ipo import PerToken, ipo
from trueup.methods.method import Beta, Method, method
from trueup.references.choices import TrustRegion

if TYPE_CHECKING:
    from trueup.batch.index import Pairs
    from trueup.batch.logprobs import LogProbs


@method(
    name="tr-ipo",
    title="Trust-region IPO",
    formula="IPO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback="pairs, or anything that orders two responses to one prompt",
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="ipo",
    least_responses=2,
)
def tr_ipo(
    *,
    beta: Beta = 0.05,
    per_token: PerToken = False,
    reference: TrustRegion = TrustRegion(alpha=0.6, every=512),
) -> Method[PairRelation, Pairs, LogProbs]:
    """IPO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    return ipo(beta=beta, per_token=per_token, reference=reference)
