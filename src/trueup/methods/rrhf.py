"""Rank responses to align with human feedback. Yuan et al., 2023, https://arxiv.org/abs/2304.05302."""

from typing import Annotated, Literal

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.transforms.merge_prompts import MergedPrompts
from trueup.methods.kinds import Method, method, with_settings, without_reference

RankWeight = Annotated[float, Field(ge=0, description="Weight of the ranking term.")]
SftWeight = Annotated[float, Field(ge=0, description="Weight of imitating the best response.")]

Normalize = Annotated[
    Literal["response", "padded"],
    Field(
        description="What log-likelihoods are divided by: each response's own tokens, as in the paper; or the "
        "padded length of its group, as in the authors' code, which also divides the imitation term."
    ),
]

MergePrompts = Annotated[
    bool,
    Field(
        description="Rank all responses to a prompt together, from whatever files and policies they come; their scores "
        "must be on one scale. Duplicates are removed."
    ),
]


@method(
    name="rrhf",
    title="Rank responses to align with human feedback",
    formula="-log p(best) + sum over score_i < score_j of max(0, p_i - p_j), p the log-likelihood per token",
    paper="Yuan et al., 2023, https://arxiv.org/abs/2304.05302",
    feedback="rankings: two or more scored responses to one prompt",
    defaults={"learning_rate": 2e-5, "warmup_ratio": 0.03, "batch_size": 64, "epochs": 3.0},
    least_responses=2,
)
def rrhf(
    *,
    rank_weight: RankWeight = 1.0,
    sft_weight: SftWeight = 1.0,
    normalize: Normalize = "response",
    merge_prompts: MergePrompts = False,
) -> Method:
    """Order responses by their length-normalised likelihood as their scores do, and imitate the best one."""
    from trueup.batch.rows import Rankings
    from trueup.objectives import rrhf as objective

    chosen = {"response": objective.rrhf, "padded": objective.rrhf_padded}[normalize]
    loss = with_settings(chosen, rank_weight=rank_weight, sft_weight=sft_weight)
    transforms = (MergedPrompts(),) if merge_prompts else ()
    return without_reference(views.rankings, Rankings.collate, loss, transforms=transforms)
