from trueup.methods import kinds


@kinds.method(
    name="wpo",
    title="Weighted preference optimization",
    formula="w(chosen) w(rejected) DPO, w the likelihood per token over that of a draw, as it is now",
    paper="Zhou et al., 2024, https://arxiv.org/abs/2406.11827",
    **kinds.OF_PAIRS,
)
def wpo(
    *, beta: kinds.Beta = 0.1, sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen()
) -> kinds.Method:
    """DPO in which pairs count as much as the policy would have written them itself."""
    loss = kinds.with_settings(kinds.objectives.dpo_variants.wpo, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight, parts=("collision",))
