from trueup.feedback.labels import check_classes
from trueup.methods import kinds


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
def unlikelihood(*, weight: kinds.NonNegative = 1.0, ascent: bool = False) -> kinds.Method:
    """Imitate desirable responses, and make the tokens of undesirable ones less likely; no reference.

    Args:
        weight: Weight of making undesirable responses less likely.
        ascent: Lower the log-likelihood per token of undesirable responses, without bound, as the authors of
            ULMA do; false makes each of their tokens less likely.
    """
    from trueup.batch.rows import Points

    loss = kinds.objectives.unlikelihood.unlikelihood_ascent if ascent else kinds.objectives.unlikelihood.unlikelihood
    return kinds.without_reference(
        kinds.views.points, Points.collate, kinds.with_settings(loss, weight=weight), checks=(check_classes,)
    )
