"""Identity preference optimization. Azar et al., 2023, https://arxiv.org/abs/2310.12036."""

from typing import Annotated

from pydantic import Field

from trueup.methods.kinds import PAIRS, AnyReference, Beta, Frozen, Method, method, pairwise, with_settings

PerToken = Annotated[
    bool,
    Field(
        description="Divide each log-ratio by the tokens of its response, as TRL does; false sums over them."
    ),
]


@method(
    name="ipo",
    title="Identity preference optimization",
    formula="(log-ratio(chosen) - log-ratio(rejected) - 1/(2 beta))^2",
    paper="Azar et al., 2023, https://arxiv.org/abs/2310.12036",
    feedback=PAIRS,
    defaults={"learning_rate": 1e-6},
    trl_loss="ipo",
    least_responses=2,
)
def ipo(*, beta: Beta = 0.1, per_token: PerToken = False, reference: AnyReference = Frozen()) -> Method:
    """Pull the log-ratios of each pair 1 / (2 beta) apart, and no further."""
    from trueup.objectives import ipo as objective

    return pairwise(with_settings(objective.ipo, beta=beta, per_token=per_token), reference)
