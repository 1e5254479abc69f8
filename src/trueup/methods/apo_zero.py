from trueup.methods import kinds


@kinds.method(
    name="apo-zero",
    title="Anchored preference optimization, zero",
    formula="1 - sigmoid(beta log-ratio(chosen)) + sigmoid(beta log-ratio(rejected))",
    paper="D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266",
    trl_loss="apo_zero",
    **kinds.OF_PAIRS,
)
def apo_zero(
    *, beta: kinds.Beta = 0.1, sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen()
) -> kinds.Method:
    """Raise chosen responses and lower rejected ones; for chosen responses better than what the policy writes."""
    loss = kinds.with_settings(kinds.objectives.dpo_variants.apo_zero, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight)
