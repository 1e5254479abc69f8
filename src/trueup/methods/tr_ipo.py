from trueup.methods import kinds
from trueup.methods.ipo import ipo


@kinds.method(
    name="tr-ipo",
    title="Trust-region IPO",
    formula="IPO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="ipo",
    least_responses=2,
)
def tr_ipo(
    *, beta: kinds.Beta = 0.05, per_token: kinds.PerTokenGap = False, sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.TrustRegion = kinds.TrustRegion(alpha=0.6, every=512),
) -> kinds.Method:  # fmt: skip
    """IPO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    return ipo(beta=beta, per_token=per_token, sft_weight=sft_weight, reference=reference)
