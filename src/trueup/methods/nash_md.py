from trueup.methods import kinds


@kinds.method(
    name="nash-md",
    title="Nash mirror descent",
    formula="-(P(y > y') - 1/2) log pi(y) + beta/2 log-ratio(y)^2, y' of the mixture pi^(1 - a) pi_ref^a",
    paper="Munos et al., 2023, https://arxiv.org/abs/2312.00886",
    feedback=kinds.JUDGED_PROMPTS,
    defaults={"source": "online", "learning_rate": 5e-7, "sampler.responses": 1},
    sources=kinds.GATHERED,
    evaluates=False,
    least_responses=2,
    opponent=True,
    figures=("policy/wins", "online/score", "kl"),
)
def nash_md(
    *, beta: kinds.Beta = 0.1, mixture: kinds.SomeOrAll = 0.5, reference: kinds.AnyReference = kinds.Frozen()
) -> kinds.Method:
    """Be preferred to the mixture of the policy and its reference.

    Args:
        mixture: a, the weight of the reference in the geometric mixture; 1 is the reference alone.
    """
    loss = kinds.with_settings(kinds.objectives.opponents.nash_md, beta=beta)
    return kinds.pairwise(loss, reference, mixture=mixture)
