from typing import Literal

from trueup.feedback.transforms import MergedPrompts
from trueup.methods import kinds


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
    *, rank_weight: kinds.NonNegative = 1.0, sft_weight: kinds.NonNegative = 1.0,
    normalize: Literal["response", "padded"] = "response", merge_prompts: bool = False,
) -> kinds.Method:  # fmt: skip
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

    chosen = {"response": kinds.objectives.rrhf.rrhf, "padded": kinds.objectives.rrhf.rrhf_padded}[normalize]
    loss = kinds.with_settings(chosen, rank_weight=rank_weight, sft_weight=sft_weight)
    transforms = (MergedPrompts(),) if merge_prompts else ()
    return kinds.without_reference(kinds.views.rankings, Rankings.collate, loss, transforms=transforms)
