"""Robust direct preference optimization. Chowdhury et al., 2024, https://arxiv.org/abs/2403.00409."""

from typing import Annotated

from pydantic import Field

from trueup.methods.kinds import PAIRS, AnyReference, Beta, Frozen, Method, method, pairwise, with_settings

LabelSmoothing = Annotated[
    float,
    Field(ge=0, lt=0.5, description="Share of pairs whose order is wrong, which the loss makes up for."),
]


@method(
    name="robust-dpo",
    title="Robust DPO",
    formula="[-(1 - e) log sigmoid(m) + e log sigmoid(-m)] / (1 - 2 e), m the margin of DPO",
    paper="Chowdhury et al., 2024, https://arxiv.org/abs/2403.00409",
    feedback=PAIRS,
    defaults={"learning_rate": 1e-6},
    trl_loss="robust",
    least_responses=2,
)
def robust_dpo(
    *, beta: Beta = 0.1, label_smoothing: LabelSmoothing = 0.1, reference: AnyReference = Frozen()
) -> Method:
    """DPO for pairs of which a known share is in the wrong order."""
    from trueup.objectives import dpo as objective

    return pairwise(
        with_settings(objective.robust_dpo, beta=beta, label_smoothing=label_smoothing), reference
    )
