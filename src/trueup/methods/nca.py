from trueup.methods import kinds


@kinds.method(
    name="nca",
    title="Noise contrastive alignment",
    formula="-log sigmoid(r(chosen)) - log sigmoid(-r(chosen)) / 2 - log sigmoid(-r(rejected)) / 2, r = beta log-ratio",
    paper="Chen et al., 2024, https://arxiv.org/abs/2402.05369",
    trl_loss="nca_pair",
    **kinds.OF_PAIRS,
)
def nca(
    *, beta: kinds.Beta = 0.1, sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen()
) -> kinds.Method:
    """Raise chosen responses themselves, not only over rejected ones."""
    loss = kinds.with_settings(kinds.objectives.dpo_variants.nca, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight)
