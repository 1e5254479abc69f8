from trueup.methods import kinds


@kinds.method(
    name="pro",
    title="Preference ranking optimization",
    formula="sum over k of -log(exp(T_kk p_k) / (exp(T_kk p_k) + sum over worse i of exp(T_ki p_i))) - "
    "sft_weight (n - 1)^2 log p(best), T_ki = score_k - score_i, T_kk their largest",
    paper="Song et al., 2023, https://arxiv.org/abs/2306.17492",
    feedback="rankings: two or more scored responses to one prompt",
    defaults={"learning_rate": 5e-6, "epochs": 2.0},
    least_responses=2,
    figures=("loss", "loss/rank", "loss/sft", "rewards/accuracies"),
)
def pro(*, sft_weight: kinds.NonNegative = 0.05) -> kinds.Method:
    """Tell each response from all that are worse, by its likelihood per token, and imitate the best one.

    Args:
        sft_weight: Weight of imitating the best response, times the square of how many others there are.
    """
    from trueup.batch.rows import Rankings

    loss = kinds.with_settings(kinds.objectives.rrhf.pro, sft_weight=sft_weight)
    return kinds.without_reference(kinds.views.rankings, Rankings.collate, loss)
