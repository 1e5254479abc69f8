from typing import Any

from trueup.feedback.labels import GradedLabels, check_classes
from trueup.methods import kinds


@kinds.method(
    name="ulma",
    title="Unified language model alignment",
    formula="-z log p(response) - (1 - z) log(1 - sigmoid(s)), or, continuous, (z - s)^2; s = beta log-ratio; "
    "-log p(response) on demonstrations",
    paper="Cai et al., 2023, https://arxiv.org/abs/2312.02554",
    feedback="labelled responses (thumbs or grades; scores with --scale) and demonstrations, mixed",
    defaults=kinds.LABEL_DEFAULTS,
    measures=kinds.measured_of_labels,
    figures=kinds.POINT_FIGURES,
)
def ulma(
    *, beta: kinds.Beta = 0.1, continuous: kinds.Continuous = False, scale: kinds.LabelScale = "none",
    score_low: kinds.ScoreLow = None, score_high: kinds.ScoreHigh = None,
    demonstration_from: kinds.UnitInterval | None = None, group_means: bool = False,
    per_token: kinds.PerTokenRatio = False, log_z: kinds.LogZ = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Imitate demonstrations and thumbs up; push the rest below the reference, as far as beta allows.

    Args:
        demonstration_from: Responses labelled this or more count as demonstrations. Left out: only those marked
            as such.
        group_means: Add the mean over imitated responses and the mean over the others, as in the authors' code;
            false takes the mean over all.
    """
    given: dict[str, Any] = {"beta": beta, "continuous": continuous, "per_token": per_token, "log_z": log_z}
    return kinds.pointwise(
        kinds.over_step(kinds.objectives.ulma.LABELS, kinds.objectives.ulma.ulma_group_means, **given)
        if group_means
        else kinds.with_settings(kinds.objectives.ulma.ulma, **given),
        reference,
        view=kinds.views.points_with_demonstrations,
        transform=GradedLabels(scale, score_low, score_high, demonstration_from),
        check=check_classes,
    )
