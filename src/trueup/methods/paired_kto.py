"""KTO on pairs. Ethayarajh et al., 2024, arXiv 2402.01306; Gorbatovski et al., 2024, arXiv 2404.09656."""

from trueup.methods import kinds


@kinds.method(
    name="paired-kto",
    title="KTO on pairs",
    formula="(1 - sigmoid(beta (rho_w - z_l)) + 1 - sigmoid(beta (z_w - rho_l))) / 2, z = max(0, mean of rho)",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 1e-6},
    trl_loss="kto_pair",
    least_responses=2,
)
def paired_kto(
    *,
    beta: kinds.Beta = 0.1,
    sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:
    """Measure each side of a pair against how far the other side has moved on average."""
    from trueup.objectives import paired_kto as objective

    loss = kinds.over_step(objective.LOG_RATIOS, objective.paired_kto, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight)
