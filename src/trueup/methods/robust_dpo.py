from trueup.methods import kinds


@kinds.method(
    name="robust-dpo",
    title="Robust DPO",
    formula="[-(1 - e) log sigmoid(m) + e log sigmoid(-m)] / (1 - 2 e), m the margin of DPO",
    paper="Chowdhury et al., 2024, https://arxiv.org/abs/2403.00409",
    trl_loss="robust",
    **kinds.OF_PAIRS,
)
def robust_dpo(
    *, beta: kinds.Beta = 0.1, label_smoothing: kinds.WrongShare = 0.1, sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """DPO for pairs of which a known share is in the wrong order.

    Args:
        label_smoothing: Share of pairs whose order is wrong, which the loss makes up for.
    """
    loss = kinds.with_settings(kinds.objectives.dpo.robust_dpo, beta=beta, label_smoothing=label_smoothing)
    return kinds.pairwise(loss, reference, sft_weight)
