from typing import Literal

from trueup.methods import kinds
from trueup.methods.dpo import dpo
from trueup.methods.ipo import ipo
from trueup.methods.slic import slic

BETA = {"dpo": 0.1, "ipo": 1.0, "slic": 0.002}  # the paper's


@kinds.method(
    name="oaif",
    title="Online AI feedback",
    formula="DPO, IPO or SLiC on pairs of responses that the policy has just written and an annotator has compared",
    paper="Guo et al., 2024, https://arxiv.org/abs/2402.04792",
    feedback=kinds.JUDGED_PROMPTS,
    defaults={
        "source": "online",
        "learning_rate": 5e-7,
        "batch_size": 128,
        "sampler.responses": 2,
        "sampler.temperature": 0.9,
    },
    aliases=("online-dpo",),
    sources=kinds.GATHERED,
    least_responses=2,
    figures=("loss", "online/score", "rewards/accuracies", "kl"),
)
def oaif(
    *, objective: Literal["dpo", "ipo", "slic"] = "dpo", beta: kinds.Positive | None = None,
    sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Sample two responses with the policy as it is, ask which is better, and learn from the answer at once.

    Args:
        objective: What is learned from the annotator's preferences.
        beta: Strength of the KL constraint. Left out: 0.1 for dpo, 1 for ipo, 0.002 for slic.
    """
    strength = BETA[objective] if beta is None else beta
    chosen = {"dpo": dpo, "ipo": ipo, "slic": slic}[objective]
    return chosen(beta=strength, sft_weight=sft_weight, reference=reference)
