from trueup.methods import kinds


@kinds.method(
    name="dpo-positive",
    title="DPO-Positive",
    formula="-log sigmoid(beta (log-ratio(chosen) - log-ratio(rejected) - penalty max(0, -log-ratio(chosen))))",
    paper="Pal et al., 2024, https://arxiv.org/abs/2402.13228",
    **kinds.OF_PAIRS,
)
def dpo_positive(
    *, beta: kinds.Beta = 0.3, penalty: kinds.NonNegative = 50.0, sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """DPO that does not let chosen responses become less likely than they are under the reference.

    Args:
        penalty: Of each nat by which a chosen response is less likely than under the reference; lambda in the paper.
    """
    loss = kinds.with_settings(kinds.objectives.dpo_variants.dpo_positive, beta=beta, penalty=penalty)
    return kinds.pairwise(loss, reference, sft_weight)
