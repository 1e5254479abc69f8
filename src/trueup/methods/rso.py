from dataclasses import replace

from trueup.feedback.transforms import RejectionSampled
from trueup.methods import kinds
from trueup.methods.dpo import dpo
from trueup.methods.slic import slic


@kinds.method(
    name="rso",
    title="Statistical rejection sampling optimization",
    formula="SLiC or DPO on pairs of the responses that rejection sampling keeps of many scored ones",
    paper="Liu et al., 2023, https://arxiv.org/abs/2309.06657",
    feedback="rankings: many scored responses to one prompt",
    defaults={"learning_rate": 1e-6},
    needs_scores=True,
    least_responses=2,
)
def rso(
    *, objective: kinds.MarginLoss = "hinge", beta: kinds.Beta = 0.05, rejection_beta: kinds.Positive = 0.5,
    keep: kinds.Several = 8, sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Keep the responses that a better policy would have written, and learn from the order of their scores.

    Args:
        objective: SLiC's hinge or DPO's logistic loss, both against the reference.
        rejection_beta: How much worse than the best a response may be, in score; near 0 the best ones are kept.
        keep: Responses to a prompt that are kept; every two with different scores are a pair.
    """
    made = {"hinge": slic, "logistic": dpo}[objective](beta=beta, sft_weight=sft_weight, reference=reference)
    return replace(made, transforms=(RejectionSampled(rejection_beta, keep),))
