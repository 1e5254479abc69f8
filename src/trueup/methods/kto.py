from trueup.feedback.labels import Thumbs, check_class_balance
from trueup.feedback.records import by_label
from trueup.methods import kinds


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
    *, beta: kinds.Beta = 0.1, desirable_weight: kinds.DesirableWeight = 1.0,
    undesirable_weight: kinds.UndesirableWeight = 1.0, desirable_from: kinds.DesirableFrom = None,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Raise responses with a thumb up and lower the others, with less and less to gain from each."""
    loss = kinds.over_step(
        kinds.objectives.kto.MISMATCHED, kinds.objectives.kto.kto, beta=beta, desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )  # fmt: skip
    return kinds.pointwise(
        loss,
        reference,
        transform=Thumbs(desirable_from),
        check=lambda examples: check_class_balance(
            examples, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight
        ),
        stratum=by_label,
    )
