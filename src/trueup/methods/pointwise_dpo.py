from trueup.feedback.labels import GradedLabels, check_classes
from trueup.methods import kinds


@kinds.method(
    name="pointwise-dpo",
    title="Point-wise DPO",
    formula="-z log sigmoid(s) - (1 - z) log(1 - sigmoid(s)), or, continuous, (z - s)^2; s = beta log-ratio",
    paper="Cai et al., 2023, https://arxiv.org/abs/2312.02554",
    feedback="labelled responses (thumbs or grades); scores with --scale; pairs count as one of each",
    defaults=kinds.LABEL_DEFAULTS,
    measures=kinds.measured_of_labels,
    figures=kinds.POINT_FIGURES,
)
def pointwise_dpo(
    *, beta: kinds.Beta = 0.1, continuous: kinds.Continuous = False, scale: kinds.LabelScale = "none",
    score_low: kinds.ScoreLow = None, score_high: kinds.ScoreHigh = None,
    per_token: kinds.PerTokenRatio = False, log_z: kinds.LogZ = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Move the implicit reward of every response towards its label."""
    loss = kinds.with_settings(
        kinds.objectives.pointwise_dpo.pointwise_dpo, beta=beta, continuous=continuous, per_token=per_token, log_z=log_z
    )
    transform = GradedLabels(scale, score_low, score_high)
    return kinds.pointwise(loss, reference, transform=transform, check=check_classes)
