from trueup.feedback.labels import Thumbs, check_classes
from trueup.methods import kinds


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
    *, beta: kinds.Beta = 0.1, shift: bool = True, desirable_from: kinds.DesirableFrom = None,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Tell desirable from undesirable responses by their rewards, around the mean reward of the run so far.

    Args:
        shift: Take the mean reward so far off every reward; false takes nothing off.
    """
    shifted = kinds.over_step(kinds.objectives.bco.SEEN, kinds.objectives.bco.bco, beta=beta)
    return kinds.pointwise(
        shifted if shift else kinds.with_settings(kinds.objectives.bco.bco, beta=beta), reference,
        transform=Thumbs(desirable_from), check=check_classes,
    )  # fmt: skip
