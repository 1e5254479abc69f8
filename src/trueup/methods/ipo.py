from trueup.methods import kinds


@kinds.method(
    name="ipo",
    title="Identity preference optimization",
    formula="(log-ratio(chosen) - log-ratio(rejected) - 1/(2 beta))^2",
    paper="Azar et al., 2023, https://arxiv.org/abs/2310.12036",
    trl_loss="ipo",
    **kinds.OF_PAIRS,
)
def ipo(
    *, beta: kinds.Beta = 0.1, per_token: kinds.PerTokenGap = False, sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Pull the log-ratios of each pair 1 / (2 beta) apart, and no further."""
    loss = kinds.with_settings(kinds.objectives.ipo.ipo, beta=beta, per_token=per_token)
    return kinds.pairwise(loss, reference, sft_weight)
