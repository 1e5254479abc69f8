"""Trust-region DPO: DPO whose reference follows the policy. Gorbatovski et al., 2024, arXiv 2404.09656."""

from trueup.methods.dpo import dpo
from trueup.methods.kinds import PAIRS, Beta, Method, TrustRegion, method


@method(
    name="tr-dpo",
    title="Trust-region DPO",
    formula="DPO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback=PAIRS,
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="sigmoid",
    least_responses=2,
)
def tr_dpo(*, beta: Beta = 0.05, reference: TrustRegion = TrustRegion(alpha=0.6, every=512)) -> Method:
    """DPO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    return dpo(beta=beta, reference=reference)
