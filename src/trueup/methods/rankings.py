"""Learning from two or more scored responses to a prompt."""

from dataclasses import replace
from typing import Literal

from trueup.feedback import views
from trueup.feedback.transforms import MergedPrompts, RejectionSampled
from trueup.methods import kinds
from trueup.methods.dpo import dpo
from trueup.methods.kinds import AnyReference, Beta, Frozen, Method, SFTWeight
from trueup.methods.pairs import slic


@kinds.method(
    name="rrhf",
    title="Rank responses to align with human feedback",
    formula="-log p(best) + sum over score_i < score_j of max(0, p_i - p_j), p the log-likelihood per token",
    paper="Yuan et al., 2023, https://arxiv.org/abs/2304.05302",
    feedback="rankings: two or more scored responses to one prompt",
    defaults={"learning_rate": 2e-5, "warmup_ratio": 0.03, "batch_size": 64, "epochs": 3.0},
    least_responses=2,
    figures=("loss", "loss/rank", "loss/sft", "rewards/accuracies"),
)
def rrhf(
    *,
    rank_weight: kinds.NonNegative = 1.0,
    sft_weight: kinds.NonNegative = 1.0,
    normalize: Literal["response", "padded"] = "response",
    merge_prompts: bool = False,
) -> Method:
    """Order responses by their length-normalised likelihood as their scores do, and imitate the best one.

    Args:
        rank_weight: Weight of the ranking term.
        sft_weight: Weight of imitating the best response.
        normalize: What log-likelihoods are divided by: each response's own tokens, as in the paper; or the
            padded length of its group, as in the authors' code, which also divides the imitation term.
        merge_prompts: Rank all responses to a prompt together, from whatever files and policies they come;
            their scores must be on one scale. Duplicates are removed.
    """
    from trueup.batch.rows import Rankings
    from trueup.objectives import rrhf as objective

    chosen = {"response": objective.rrhf, "padded": objective.rrhf_padded}[normalize]
    loss = kinds.with_settings(chosen, rank_weight=rank_weight, sft_weight=sft_weight)
    transforms = (MergedPrompts(),) if merge_prompts else ()
    return kinds.without_reference(views.rankings, Rankings.collate, loss, transforms=transforms)


@kinds.method(
    name="pro",
    title="Preference ranking optimization",
    formula="sum over k of -log(exp(T_kk p_k) / (exp(T_kk p_k) + sum over worse i of exp(T_ki p_i))) - "
    "sft_weight (n - 1)^2 log p(best), T_ki = score_k - score_i, T_kk their largest",
    paper="Song et al., 2023, https://arxiv.org/abs/2306.17492",
    feedback="rankings: two or more scored responses to one prompt",
    defaults={"learning_rate": 5e-6, "epochs": 2.0},
    least_responses=2,
    figures=("loss", "loss/rank", "loss/sft", "rewards/accuracies"),
)
def pro(*, sft_weight: kinds.NonNegative = 0.05) -> Method:
    """Tell each response from all that are worse, by its likelihood per token, and imitate the best one.

    Args:
        sft_weight: Weight of imitating the best response, times the square of how many others there are.
    """
    from trueup.batch.rows import Rankings
    from trueup.objectives import rrhf as objective

    loss = kinds.with_settings(objective.pro, sft_weight=sft_weight)
    return kinds.without_reference(views.rankings, Rankings.collate, loss)


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
    *,
    objective: kinds.MarginLoss = "hinge",
    beta: Beta = 0.05,
    rejection_beta: kinds.Positive = 0.5,
    keep: kinds.Several = 8,
    sft_weight: SFTWeight = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Keep the responses that a better policy would have written, and learn from the order of their scores.

    Args:
        objective: SLiC's hinge or DPO's logistic loss, both against the reference.
        rejection_beta: How much worse than the best a response may be, in score; near 0 the best ones are kept.
        keep: Responses to a prompt that are kept; every two with different scores are a pair.
    """
    made = {"hinge": slic, "logistic": dpo}[objective](beta=beta, sft_weight=sft_weight, reference=reference)
    return replace(made, transforms=(RejectionSampled(rejection_beta, keep),))
