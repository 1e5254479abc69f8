"""Trust-region KTO: KTO whose reference follows the policy. Gorbatovski et al., 2024, arXiv 2404.09656."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trueup.feedback.records import PointRelation
from trueup.methods.kto import DesirableFrom, DesirableWeight, UndesirableWeight, kto
from trueup.methods.method import Beta, Method, method
from trueup.references.choices import TrustRegion

if TYPE_CHECKING:
    from trueup.batch.index import Points
    from trueup.batch.logprobs import LogProbs


@method(
    name="tr-kto",
    title="Trust-region KTO",
    formula="KTO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback="labelled responses (thumbs up and down); pairs count as one of each",
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="kto",
)
def tr_kto(
    *,
    beta: Beta = 0.05,
    desirable_weight: DesirableWeight = 1.0,
    undesirable_weight: UndesirableWeight = 1.0,
    desirable_from: DesirableFrom = None,
    reference: TrustRegion = TrustRegion(alpha=0.6, every=512),
) -> Method[PointRelation, Points, LogProbs]:
    """KTO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    return kto(
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
        desirable_from=desirable_from,
        reference=reference,
    )
