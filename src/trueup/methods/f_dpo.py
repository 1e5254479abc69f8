from trueup.methods import kinds


@kinds.method(
    name="f-dpo",
    title="DPO with an f-divergence",
    formula="-log sigmoid(beta f'(u(chosen)) - beta f'(u(rejected))), u = p / p_reference",
    paper="Wang et al., 2023, https://arxiv.org/abs/2309.16240",
    **kinds.OF_PAIRS,
)
def f_dpo(
    *, beta: kinds.Beta = 0.1, divergence: kinds.Divergence = "js", alpha: kinds.ClipRange = 0.5,
    sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """DPO that keeps to the reference by another divergence than the reverse KL.

    Args:
        divergence: What the constraint is: the forward KL, Jensen-Shannon, or the alpha-divergence.
        alpha: Of the alpha-divergence; towards 0 it is the reverse KL of DPO, towards 1 the forward KL.
    """
    loss = kinds.with_settings(kinds.objectives.dpo_variants.f_dpo, beta=beta, divergence=divergence, alpha=alpha)
    return kinds.pairwise(loss, reference, sft_weight)
