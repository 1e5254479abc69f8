"""Anchored preference optimization, zero. D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266."""

from trueup.methods import kinds


@kinds.method(
    name="apo-zero",
    title="Anchored preference optimization, zero",
    formula="1 - sigmoid(beta log-ratio(chosen)) + sigmoid(beta log-ratio(rejected))",
    paper="D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 1e-6},
    trl_loss="apo_zero",
    least_responses=2,
)
def apo_zero(
    *,
    beta: kinds.Beta = 0.1,
    sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:
    """Raise chosen responses and lower rejected ones; for chosen responses better than what the policy writes."""
    from trueup.objectives import dpo_variants as objective

    loss = kinds.with_settings(objective.apo_zero, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight)
