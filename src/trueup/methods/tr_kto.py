from trueup.methods import kinds
from trueup.methods.kto import kto


@kinds.method(
    name="tr-kto",
    title="Trust-region KTO",
    formula="KTO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback=kinds.THUMBS,
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="kto",
    figures=kinds.POINT_FIGURES,
)
def tr_kto(
    *, beta: kinds.Beta = 0.05, desirable_weight: kinds.DesirableWeight = 1.0,
    undesirable_weight: kinds.UndesirableWeight = 1.0, desirable_from: kinds.DesirableFrom = None,
    reference: kinds.TrustRegion = kinds.TrustRegion(alpha=0.6, every=512),
) -> kinds.Method:  # fmt: skip
    """KTO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    return kto(
        beta=beta, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight,
        desirable_from=desirable_from, reference=reference,
    )  # fmt: skip
