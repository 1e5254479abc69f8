from trueup.methods import kinds


@kinds.method(
    name="reward-model",
    title="Reward model",
    formula="-log sigmoid(r(chosen) - r(rejected) - margin) + centring (r(chosen) + r(rejected))^2",
    paper="Lee et al., 2023, https://arxiv.org/abs/2309.00267",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 1e-5},
    sources=("offline",),
    least_responses=2,
    figures=("loss", "rewards/accuracies", "rewards/margins"),
)
def reward_model(
    *, margin: kinds.NonNegative = 0.0, margin_per_score: kinds.NonNegative = 0.0, centring: kinds.NonNegative = 0.01
) -> kinds.Method:
    """Learn scores whose differences are the log-odds of one response being preferred to the other.

    Args:
        margin: By how much the score of the chosen response has to exceed the other's.
        margin_per_score: Added to the margin for every unit by which the chosen response was scored higher.
        centring: Weight of the squared sum of a pair's scores, which holds their level at 0.
    """
    from trueup.batch.rows import GradedPairs

    loss = kinds.with_settings(
        kinds.objectives.bradley_terry.bradley_terry, margin=margin, margin_per_score=margin_per_score,
        centring=centring,
    )  # fmt: skip
    return kinds.without_reference(kinds.views.graded_pairs, GradedPairs.collate, loss, output="scores")
