from trueup.methods import kinds


@kinds.method(
    name="simpo",
    title="Simple preference optimization",
    formula="-log sigmoid(beta (log p(chosen) - log p(rejected)) - margin), log p the log-likelihood per token",
    paper="Meng et al., 2024, https://arxiv.org/abs/2405.14734",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 1e-6, "schedule": "cosine", "warmup_ratio": 0.1, "batch_size": 128},
    trl_loss="simpo",
    figures=("loss", "rewards/accuracies", "rewards/margins", "logps/chosen"),
    least_responses=2,
)
def simpo(
    *, beta: kinds.Positive = 2.0, margin: kinds.NonNegative = 1.0, sft_weight: kinds.SFTWeight = 0.0
) -> kinds.Method:
    """Make chosen responses likelier per token than rejected ones, by a margin; no reference.

    Args:
        beta: Reward per nat a token.
        margin: How far the reward of a chosen response is to be above that of the rejected one; gamma in the paper.
    """
    loss = kinds.with_settings(kinds.objectives.reference_free.simpo, beta=beta, margin=margin)
    return kinds.pairwise(loss, kinds.NoReference(), sft_weight)
