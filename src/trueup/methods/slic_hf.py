"""SLiC-HF: sequence likelihood calibration. Zhao et al., 2023, https://arxiv.org/abs/2305.10425."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.records import DemonstratedPairRelation, PairRelation
from trueup.methods.method import Method, method
from trueup.references.choices import NoReference

if TYPE_CHECKING:
    from trueup.batch.index import PairsWithTarget

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
    feedback="pairs, or anything that orders two responses to one prompt; with target demonstration, these too",
    defaults={"learning_rate": 1e-6},
    least_responses=2,
)
def slic_hf(
    *, margin: Margin = 1.0, regularization: Regularization = 0.1, target: Target = "chosen"
) -> Method[Any, PairsWithTarget, None]:
    """Make chosen responses likelier than rejected ones by a margin, and keep a target likely; no reference."""
    from trueup.batch.index import PairsWithTarget
    from trueup.objectives import slic_hf as objective

    loss = partial(objective.slic_hf, margin=margin, regularization=regularization)
    of_chosen: Method[PairRelation, PairsWithTarget, None] = Method(
        views.pairs, PairsWithTarget.collate_chosen, loss, NoReference()
    )
    of_demonstration: Method[DemonstratedPairRelation, PairsWithTarget, None] = Method(
        views.pairs_with_demonstration, PairsWithTarget.collate, loss, NoReference()
    )
    choices: dict[str, Method[Any, PairsWithTarget, None]] = {
        "chosen": of_chosen,
        "demonstration": of_demonstration,
    }
    return choices[target]
