"""Sequence likelihood calibration against a reference. Liu et al., 2023, https://arxiv.org/abs/2309.06657."""

from trueup.methods import kinds


@kinds.method(
    name="slic",
    title="Sequence likelihood calibration against a reference",
    formula="max(0, 1 - beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="Liu et al., 2023, https://arxiv.org/abs/2309.06657",
    feedback=kinds.PAIRS,
    defaults={"learning_rate": 1e-6},
    trl_loss="hinge",
    least_responses=2,
)
def slic(
    *,
    beta: kinds.Beta = 0.05,
    sft_weight: kinds.SFTWeight = 0.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:
    """Raise chosen responses over rejected ones, relative to a reference, until they are 1 / beta apart."""
    from trueup.objectives import slic as objective

    return kinds.pairwise(kinds.with_settings(objective.slic, beta=beta), reference, sft_weight)
