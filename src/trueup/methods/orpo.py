from trueup.methods import kinds


@kinds.method(
    name="orpo",
    title="Odds ratio preference optimization",
    formula="-log p(chosen) - beta log sigmoid(log-odds(chosen) - log-odds(rejected)), p the likelihood per token",
    paper="Hong et al., 2024, https://arxiv.org/abs/2403.07691",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 5e-6},
    figures=("loss", "rewards/accuracies", "rewards/margins", "logps/chosen"),
    least_responses=2,
)
def orpo(*, beta: kinds.Positive = 0.1, sft_weight: kinds.SFTWeight = 1.0) -> kinds.Method:
    """Imitate chosen responses, and raise their odds over those of rejected ones; no reference, no model before it.

    Args:
        beta: Weight of the odds ratio; lambda in the paper.
    """
    loss = kinds.with_settings(kinds.objectives.reference_free.orpo, beta=beta)
    return kinds.pairwise(loss, kinds.NoReference(), sft_weight)
