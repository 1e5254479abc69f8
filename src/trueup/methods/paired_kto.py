from trueup.methods import kinds


@kinds.method(
    name="paired-kto",
    title="KTO on pairs",
    formula="(1 - sigmoid(beta (rho_w - z_l)) + 1 - sigmoid(beta (z_w - rho_l))) / 2, z = max(0, mean of rho)",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    trl_loss="kto_pair",
    **kinds.OF_PAIRS,
)
def paired_kto(
    *, beta: kinds.Beta = 0.1, sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen()
) -> kinds.Method:
    """Measure each side of a pair against how far the other side has moved on average."""
    loss = kinds.over_step(kinds.objectives.paired_kto.LOG_RATIOS, kinds.objectives.paired_kto.paired_kto, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight)
