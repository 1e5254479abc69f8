from trueup.methods import kinds


@kinds.method(
    name="rloo",
    title="REINFORCE with a leave-one-out baseline",
    formula="-A log pi(y | x), A = R - mean R of the other responses, R = score - kl_coef log pi / pi_ref",
    paper="Ahmadian et al., 2024, https://arxiv.org/abs/2402.14740",
    feedback=kinds.REWARDED_PROMPTS,
    defaults={"source": "online", "sampler.responses": 4, "learning_rate": 1e-6},
    sources=kinds.GATHERED,
    evaluates=False,
    needs_scores=True,
    least_responses=2,
    figures=("online/score", "objective/kl", "policy/approxkl"),
)
def rloo(
    *, kl_coef: kinds.KLCoef = 0.03, missing_end_penalty: kinds.MissingEndPenalty = 0.0,
    logit_temperature: kinds.LogitTemperature = 1.0, reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Make responses likelier by how much more they earned than the others to the same prompt."""
    baseline = kinds.objectives.rollout.LeaveOneOut(kl_coef, missing_end_penalty)
    return kinds.policy_gradient(
        kinds.objectives.rloo.rloo, reference, baseline, least_responses=2, temperature=logit_temperature
    )
