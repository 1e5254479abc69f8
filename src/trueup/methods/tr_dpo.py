from trueup.methods import kinds
from trueup.methods.dpo import dpo


@kinds.method(
    name="tr-dpo",
    title="Trust-region DPO",
    formula="DPO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="sigmoid",
    least_responses=2,
)
def tr_dpo(
    *, beta: kinds.Beta = 0.05, sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.TrustRegion = kinds.TrustRegion(alpha=0.6, every=512),
) -> kinds.Method:  # fmt: skip
    """DPO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    return dpo(beta=beta, sft_weight=sft_weight, reference=reference)
