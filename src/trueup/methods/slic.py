from trueup.methods import kinds


@kinds.method(
    name="slic",
    title="Sequence likelihood calibration against a reference",
    formula="max(0, 1 - beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="Liu et al., 2023, https://arxiv.org/abs/2309.06657",
    trl_loss="hinge",
    **kinds.OF_PAIRS,
)
def slic(
    *, beta: kinds.Beta = 0.05, sft_weight: kinds.SFTWeight = 0.0, reference: kinds.AnyReference = kinds.Frozen()
) -> kinds.Method:
    """Raise chosen responses over rejected ones, relative to a reference, until they are 1 / beta apart."""
    return kinds.pairwise(kinds.with_settings(kinds.objectives.slic.slic, beta=beta), reference, sft_weight)
