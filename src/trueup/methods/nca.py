"""Noise contrastive alignment. Chen et al., 2024, https://arxiv.org/abs/2402.05369."""

from trueup.methods import kinds


@kinds.method(
    name="nca",
    title="Noise contrastive alignment",
    formula="-log sigmoid(r(chosen)) - log sigmoid(-r(chosen)) / 2 - log sigmoid(-r(rejected)) / 2, r = beta log-ratio",
    paper="Chen et al., 2024, https://arxiv.org/abs/2402.05369",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 1e-6},
    trl_loss="nca_pair",
    least_responses=2,
)
def nca(
    *,
    beta: kinds.Beta = 0.1,
    sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:
    """Raise chosen responses themselves, not only over rejected ones."""
    from trueup.objectives import dpo_variants as objective

    loss = kinds.with_settings(objective.nca, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight)
