from trueup.methods import kinds


@kinds.method(
    name="apo-down",
    title="Anchored preference optimization, down",
    formula="sigmoid(beta log-ratio(chosen)) + 1 - sigmoid(beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266",
    trl_loss="apo_down",
    **kinds.OF_PAIRS,
)
def apo_down(
    *, beta: kinds.Beta = 0.1, sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen()
) -> kinds.Method:
    """Lower chosen responses, and rejected ones more; for chosen responses worse than what the policy writes."""
    loss = kinds.with_settings(kinds.objectives.dpo_variants.apo_down, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight)
