"""KTO on pairs. Ethayarajh et al., 2024, arXiv 2402.01306; Gorbatovski et al., 2024, arXiv 2404.09656."""

from functools import partial

from trueup.methods.kinds import PAIRS, AnyReference, Beta, Frozen, Method, method, pairwise


@method(
    name="paired-kto",
    title="KTO on pairs",
    formula="(1 - sigmoid(beta (rho_w - z_l)) + 1 - sigmoid(beta (z_w - rho_l))) / 2, z = max(0, mean of rho)",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    feedback=PAIRS,
    defaults={"learning_rate": 1e-6},
    trl_loss="kto_pair",
    least_responses=2,
)
def paired_kto(*, beta: Beta = 0.1, reference: AnyReference = Frozen()) -> Method:
    """Measure each side of a pair against how far the other side has moved on average."""
    from trueup.objectives import paired_kto as objective
    from trueup.objectives.step_objective import OfOwnRows, StepObjective

    loss = StepObjective(OfOwnRows(objective.pair_log_ratios), partial(objective.paired_kto, beta=beta))
    return pairwise(loss, reference)
