"""Direct preference optimization. Rafailov et al., 2023, https://arxiv.org/abs/2305.18290."""

from typing import Annotated

from pydantic import Field

from trueup.methods.kinds import PAIRS, AnyReference, Beta, Frozen, Method, method, pairwise, with_settings

LabelSmoothing = Annotated[
    float,
    Field(ge=0, lt=0.5, description="Share of pairs whose order is taken to be wrong; above 0 it is cDPO."),
]


@method(
    name="dpo",
    title="Direct preference optimization",
    formula="-log sigmoid(beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="Rafailov et al., 2023, https://arxiv.org/abs/2305.18290",
    feedback=PAIRS,
    defaults={"learning_rate": 1e-6},
    trl_loss="sigmoid",
    least_responses=2,
)
def dpo(
    *, beta: Beta = 0.1, label_smoothing: LabelSmoothing = 0.0, reference: AnyReference = Frozen()
) -> Method:
    """Raise the likelihood of chosen responses over rejected ones, relative to a reference."""
    from trueup.objectives import dpo as objective

    return pairwise(with_settings(objective.dpo, beta=beta, label_smoothing=label_smoothing), reference)
