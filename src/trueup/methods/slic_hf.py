"""SLiC-HF: sequence likelihood calibration. Zhao et al., 2023, https://arxiv.org/abs/2305.10425."""

from typing import Annotated, Literal

from pydantic import Field

from trueup.feedback import views
from trueup.methods.kinds import PAIRS, Method, method, with_settings, without_reference

Margin = Annotated[
    float,
    Field(
        ge=0, description="How much likelier a chosen response is to become than the rejected one, in nats."
    ),
]
Regularization = Annotated[float, Field(ge=0, description="Weight of imitating the target.")]
Target = Annotated[
    Literal["chosen", "demonstration"],
    Field(
        description="What is imitated beside each pair: its chosen response, or a demonstration of the same "
        "example; examples without one are then left out."
    ),
]


@method(
    name="slic-hf",
    title="Sequence likelihood calibration with human feedback",
    formula="max(0, margin - log p(chosen) + log p(rejected)) - regularization log p(target)",
    paper="Zhao et al., 2023, https://arxiv.org/abs/2305.10425",
    feedback=f"{PAIRS}; with target demonstration, these too",
    defaults={"learning_rate": 1e-6},
    least_responses=2,
)
def slic_hf(
    *, margin: Margin = 1.0, regularization: Regularization = 0.1, target: Target = "chosen"
) -> Method:
    """Make chosen responses likelier than rejected ones by a margin, and keep a target likely; no reference."""
    from trueup.batch.rows import PairsWithTarget
    from trueup.objectives import slic_hf as objective

    loss = with_settings(objective.slic_hf, margin=margin, regularization=regularization)
    if target == "chosen":
        return without_reference(views.pairs, PairsWithTarget.collate_chosen, loss)
    return without_reference(views.pairs_with_demonstration, PairsWithTarget.collate, loss)
