from trueup.methods import kinds


@kinds.method(
    name="sppo",
    title="Self-play preference optimization, hard form",
    formula="(log-ratio(chosen) - 1/(2 beta))^2 + (log-ratio(rejected) + 1/(2 beta))^2",
    paper="Wu et al., 2024, https://arxiv.org/abs/2405.00675",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 5e-7},
    trl_loss="sppo_hard",
    least_responses=2,
)
def sppo(
    *, beta: kinds.Beta = 0.1, sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen()
) -> kinds.Method:
    """Pull the two log-ratios to plus and minus 1 / (2 beta)."""
    loss = kinds.with_settings(kinds.objectives.dpo_variants.sppo, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight)
