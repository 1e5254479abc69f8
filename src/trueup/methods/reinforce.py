from trueup.methods import kinds


@kinds.method(
    name="reinforce",
    title="REINFORCE with a value baseline",
    formula="sum over tokens of -(Z - V) log pi + value_weight (Z - V)^2, Z the rewards to come, Z - V held fixed",
    paper="Lee et al., 2023, https://arxiv.org/abs/2309.00267",
    feedback=kinds.REWARDED_PROMPTS,
    defaults={
        "source": "online",
        "sampler.responses": 1,
        "sampler.temperature": 0.9,
        "batch_size": 128,
        "learning_rate": 1e-5,
        "epochs": 8.0,
    },
    sources=kinds.GATHERED,
    evaluates=False,
    needs_scores=True,
    figures=("online/score", "objective/kl", "loss/policy", "loss/value"),
)
def reinforce(
    *, kl_coef: kinds.KLCoef = 0.05, gamma: kinds.Gamma = 1.0, value_weight: kinds.ValueWeight = 0.1,
    missing_end_penalty: kinds.MissingEndPenalty = 0.0, logit_temperature: kinds.LogitTemperature = 1.0,
    reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Make responses likelier by how much more they earned than a value head expected."""
    loss = kinds.with_settings(kinds.objectives.reinforce.reinforce, value_weight=value_weight)
    baseline = kinds.objectives.rollout.ValueBaseline(kl_coef, gamma, missing_end_penalty)
    return kinds.policy_gradient(loss, reference, baseline, parts=("values",), temperature=logit_temperature)
