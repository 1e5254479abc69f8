from trueup.methods import kinds


@kinds.method(
    name="exo",
    title="Efficient exact optimization",
    formula="KL(q, p) of q = sigmoid(beta (log-ratio(chosen) - log-ratio(rejected))) from p = 1 - label_smoothing",
    paper="Ji et al., 2024, https://arxiv.org/abs/2402.00856",
    trl_loss="exo_pair",
    **kinds.OF_PAIRS,
)
def exo(
    *, beta: kinds.Beta = 0.1, label_smoothing: kinds.SomeShare = 1e-3, sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Match the probability that the order is right by the reverse KL divergence.

    Args:
        label_smoothing: Share of pairs whose order is taken to be wrong; above 0, or the divergence has no bound.
    """
    loss = kinds.with_settings(kinds.objectives.dpo_variants.exo, beta=beta, label_smoothing=label_smoothing)
    return kinds.pairwise(loss, reference, sft_weight)
