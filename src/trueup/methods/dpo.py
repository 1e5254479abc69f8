from trueup.methods import kinds


@kinds.method(
    name="dpo",
    title="Direct preference optimization",
    formula="-log sigmoid(beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="Rafailov et al., 2023, https://arxiv.org/abs/2305.18290",
    trl_loss="sigmoid sigmoid_norm",
    **kinds.OF_PAIRS,
)
def dpo(
    *, beta: kinds.Beta = 0.1, label_smoothing: kinds.WrongShare = 0.0, per_token: kinds.PerTokenGap = False,
    sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Raise the likelihood of chosen responses over rejected ones, relative to a reference.

    Args:
        label_smoothing: Share of pairs whose order is taken to be wrong; above 0 it is cDPO.
    """
    dpo_loss = kinds.objectives.dpo.dpo
    loss = kinds.with_settings(dpo_loss, beta=beta, label_smoothing=label_smoothing, per_token=per_token)
    return kinds.pairwise(loss, reference, sft_weight)
