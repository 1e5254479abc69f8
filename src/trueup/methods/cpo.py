from trueup.methods import kinds


@kinds.method(
    name="cpo",
    title="Contrastive preference optimization",
    formula="-log sigmoid(beta (log p(chosen) - log p(rejected))) - sft_weight log p(chosen) per token",
    paper="Xu et al., 2024, https://arxiv.org/abs/2401.08417",
    figures=("loss", "rewards/accuracies", "rewards/margins", "logps/chosen"),
    **kinds.OF_PAIRS,
)
def cpo(*, beta: kinds.Positive = 0.1, sft_weight: kinds.SFTWeight = 1.0) -> kinds.Method:
    """Make chosen responses likelier than rejected ones, and imitate them; no reference.

    Args:
        beta: Reward per nat.
    """
    loss = kinds.with_settings(kinds.objectives.reference_free.cpo, beta=beta)
    return kinds.pairwise(loss, kinds.NoReference(), sft_weight)
