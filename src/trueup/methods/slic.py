"""Sequence likelihood calibration against a reference. Liu et al., 2023, https://arxiv.org/abs/2309.06657."""

from trueup.methods.kinds import PAIRS, AnyReference, Beta, Frozen, Method, method, pairwise, with_settings


@method(
    name="slic",
    title="Sequence likelihood calibration against a reference",
    formula="max(0, 1 - beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="Liu et al., 2023, https://arxiv.org/abs/2309.06657",
    feedback=PAIRS,
    defaults={"learning_rate": 1e-6},
    trl_loss="hinge",
    least_responses=2,
)
def slic(*, beta: Beta = 0.05, reference: AnyReference = Frozen()) -> Method:
    """Raise chosen responses over rejected ones, relative to a reference, until they are 1 / beta apart."""
    from trueup.objectives import slic as objective

    return pairwise(with_settings(objective.slic, beta=beta), reference)
