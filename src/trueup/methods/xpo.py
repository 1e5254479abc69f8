from trueup.methods import kinds


@kinds.method(
    name="xpo",
    title="Exploratory preference optimization",
    formula="DPO + alpha log pi(y_ref), of a response of the policy and one of the reference, y_ref",
    paper="Xie et al., 2024, https://arxiv.org/abs/2405.21046",
    feedback=kinds.JUDGED_PROMPTS,
    defaults={"source": "online", "learning_rate": 5e-7, "sampler.responses": 1},
    sources=kinds.GATHERED,
    evaluates=False,
    least_responses=2,
    opponent=True,
    figures=("loss", "online/score", "rewards/accuracies", "kl"),
)
def xpo(
    *, beta: kinds.Beta = 0.1, alpha: kinds.NonNegative = 1e-5, sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Learn by DPO from pairs of policy and reference, and be drawn away from what the reference writes.

    Args:
        alpha: Weight of making the reference's response less likely, per nat; 0 is DPO.
    """
    loss = kinds.with_settings(kinds.objectives.opponents.xpo, beta=beta, alpha=alpha)
    return kinds.pairwise(loss, reference, sft_weight, mixture=1.0)
