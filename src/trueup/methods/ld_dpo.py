from trueup.methods import kinds


@kinds.method(
    name="ld-dpo",
    title="Length-desensitized DPO",
    formula="DPO whose log-ratios count the tokens beyond the length of the shorter response alpha times",
    paper="Liu et al., 2024, https://arxiv.org/abs/2409.06411",
    **kinds.OF_PAIRS,
)
def ld_dpo(
    *, beta: kinds.Beta = 0.1, ld_alpha: kinds.UnitInterval = 0.5, sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """DPO in which what the longer response says beyond the shorter one counts less.

    Args:
        ld_alpha: How much the tokens beyond the length of the shorter response count; 1 is DPO.
    """
    loss = kinds.with_settings(kinds.objectives.dpo_variants.ld_dpo, beta=beta, alpha=ld_alpha)
    return kinds.pairwise(loss, reference, sft_weight)
