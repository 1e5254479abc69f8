"""Learning from responses that were labelled one by one."""

from typing import Any

from trueup.feedback import views
from trueup.feedback.labels import GradedLabels, Thumbs, check_class_balance, check_classes
from trueup.feedback.records import by_label
from trueup.methods import kinds
from trueup.methods.kinds import AnyReference, Beta, Frozen, Method


@kinds.method(
    name="kto",
    title="Kahneman-Tversky optimization",
    formula="w (1 - sigmoid(+-beta (rho - z0))), + on desirable and - on others, z0 = max(0, mean of mismatched rho)",
    paper="Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306",
    feedback=kinds.THUMBS,
    defaults={"learning_rate": 1e-6},
    trl_loss="kto",
    figures=kinds.POINT_FIGURES,
)
def kto(
    *,
    beta: Beta = 0.1,
    desirable_weight: kinds.DesirableWeight = 1.0,
    undesirable_weight: kinds.UndesirableWeight = 1.0,
    desirable_from: kinds.DesirableFrom = None,
    reference: AnyReference = Frozen(),
) -> Method:
    """Raise responses with a thumb up and lower the others, with less and less to gain from each."""
    from trueup.objectives import points as objective

    loss = kinds.over_step(
        objective.MISMATCHED,
        objective.kto,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )
    return kinds.pointwise(
        loss,
        reference,
        transform=Thumbs(desirable_from),
        check=lambda examples: check_class_balance(
            examples, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight
        ),
        stratum=by_label,
    )


@kinds.method(
    name="tr-kto",
    title="Trust-region KTO",
    formula="KTO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback=kinds.THUMBS,
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="kto",
    figures=kinds.POINT_FIGURES,
)
def tr_kto(
    *,
    beta: Beta = 0.05,
    desirable_weight: kinds.DesirableWeight = 1.0,
    undesirable_weight: kinds.UndesirableWeight = 1.0,
    desirable_from: kinds.DesirableFrom = None,
    reference: kinds.TrustRegion = kinds.TrustRegion(alpha=0.6, every=512),
) -> Method:
    """KTO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    return kto(
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
        desirable_from=desirable_from,
        reference=reference,
    )


@kinds.method(
    name="bco",
    title="Binary classifier optimization",
    formula="-log sigmoid(+-(beta log-ratio - delta)), + on desirable and - on others, delta the mean reward so far",
    paper="Jung et al., 2024, https://arxiv.org/abs/2404.04656",
    feedback=kinds.THUMBS,
    defaults={"learning_rate": 1e-6},
    trl_loss="bco_pair",
    figures=kinds.POINT_FIGURES,
)
def bco(
    *,
    beta: Beta = 0.1,
    shift: bool = True,
    desirable_from: kinds.DesirableFrom = None,
    reference: AnyReference = Frozen(),
) -> Method:
    """Tell desirable from undesirable responses by their rewards, around the mean reward of the run so far.

    Args:
        shift: Take the mean reward so far off every reward; false takes nothing off.
    """
    from trueup.objectives import points as objective

    shifted = kinds.over_step(objective.SEEN, objective.bco, beta=beta)
    return kinds.pointwise(
        shifted if shift else kinds.with_settings(objective.bco, beta=beta),
        reference,
        transform=Thumbs(desirable_from),
        check=check_classes,
    )


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
    *,
    beta: Beta = 0.1,
    continuous: kinds.Continuous = False,
    scale: kinds.LabelScale = "none",
    score_low: kinds.ScoreLow = None,
    score_high: kinds.ScoreHigh = None,
    per_token: kinds.PerTokenRatio = False,
    log_z: kinds.LogZ = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Move the implicit reward of every response towards its label."""
    from trueup.objectives import points as objective

    loss = kinds.with_settings(
        objective.pointwise_dpo, beta=beta, continuous=continuous, per_token=per_token, log_z=log_z
    )
    transform = GradedLabels(scale, score_low, score_high)
    return kinds.pointwise(loss, reference, transform=transform, check=check_classes)


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
    *,
    beta: Beta = 0.1,
    continuous: kinds.Continuous = False,
    scale: kinds.LabelScale = "none",
    score_low: kinds.ScoreLow = None,
    score_high: kinds.ScoreHigh = None,
    demonstration_from: kinds.UnitInterval | None = None,
    group_means: bool = False,
    per_token: kinds.PerTokenRatio = False,
    log_z: kinds.LogZ = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Imitate demonstrations and thumbs up; push the rest below the reference, as far as beta allows.

    Args:
        demonstration_from: Responses labelled this or more count as demonstrations. Left out: only those marked
            as such.
        group_means: Add the mean over imitated responses and the mean over the others, as in the authors' code;
            false takes the mean over all.
    """
    from trueup.objectives import points as objective

    given: dict[str, Any] = {"beta": beta, "continuous": continuous, "per_token": per_token, "log_z": log_z}
    return kinds.pointwise(
        kinds.over_step(objective.LABELS, objective.ulma_group_means, **given)
        if group_means
        else kinds.with_settings(objective.ulma, **given),
        reference,
        view=views.points_with_demonstrations,
        transform=GradedLabels(scale, score_low, score_high, demonstration_from),
        check=check_classes,
    )


@kinds.method(
    name="unlikelihood",
    title="Unlikelihood training",
    formula="-z log p(response) - weight (1 - z) sum over tokens of log(1 - p(token)), or, with ascent, "
    "(weight (1 - z) - z) times log p per token; z the label",
    paper="Welleck et al., 2019, https://arxiv.org/abs/1908.04319",
    feedback="labelled responses (thumbs or grades); demonstrations count as thumbs up",
    defaults=kinds.LABEL_DEFAULTS,
    figures=("loss", "logps/chosen", "logps/rejected", "grad_norm"),
)
def unlikelihood(*, weight: kinds.NonNegative = 1.0, ascent: bool = False) -> Method:
    """Imitate desirable responses, and make the tokens of undesirable ones less likely; no reference.

    Args:
        weight: Weight of making undesirable responses less likely.
        ascent: Lower the log-likelihood per token of undesirable responses, without bound, as the authors of
            ULMA do; false makes each of their tokens less likely.
    """
    from trueup.batch.rows import Points
    from trueup.objectives import points as objective

    loss = objective.unlikelihood_ascent if ascent else objective.unlikelihood
    return kinds.without_reference(
        views.points, Points.collate, kinds.with_settings(loss, weight=weight), checks=(check_classes,)
    )
