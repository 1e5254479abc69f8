"""Kahneman-Tversky optimization. Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306."""

from functools import partial
from typing import Annotated

from pydantic import Field

from trueup.feedback.label_checks import check_class_balance
from trueup.feedback.records import by_label
from trueup.feedback.transforms.graded_labels import Thumbs
from trueup.methods.kinds import THUMBS, AnyReference, Beta, Frozen, Method, method, pointwise

DesirableWeight = Annotated[float, Field(gt=0, description="Weight of desirable responses.")]
UndesirableWeight = Annotated[float, Field(gt=0, description="Weight of undesirable responses.")]
DesirableFrom = Annotated[
    float | None,
    Field(
        description="Score from which a response without a label is desirable. Left out: scores are not labels."
    ),
]


@method(
    name="kto",
    title="Kahneman-Tversky optimization",
    formula="w (1 - sigmoid(+-beta (rho - z0))), + on desirable and - on others, z0 = max(0, mean of mismatched rho)",
    paper="Ethayarajh et al., 2024, https://arxiv.org/abs/2402.01306",
    feedback=THUMBS,
    defaults={"learning_rate": 1e-6},
    trl_loss="kto",
)
def kto(
    *,
    beta: Beta = 0.1,
    desirable_weight: DesirableWeight = 1.0,
    undesirable_weight: UndesirableWeight = 1.0,
    desirable_from: DesirableFrom = None,
    reference: AnyReference = Frozen(),
) -> Method:
    """Raise responses with a thumb up and lower the others, with less and less to gain from each."""
    from trueup.objectives import kto as objective
    from trueup.objectives.step_objective import OfMismatched, StepObjective

    loss = partial(
        objective.kto, beta=beta, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight
    )
    check = partial(
        check_class_balance, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight
    )
    return pointwise(
        StepObjective(OfMismatched(objective.log_ratios), loss),
        reference,
        transform=Thumbs(desirable_from),
        check=check,
        stratum=by_label,
    )
