from trueup.methods import kinds


@kinds.method(
    name="ppo",
    title="Proximal policy optimization",
    formula="max(-A rho, -A clip(rho, 1 +- clip)) + value_weight/2 (V - R)^2 - entropy_coef H a token, "
    "rho = pi / pi_old, A by GAE",
    paper="Schulman et al., 2017, https://arxiv.org/abs/1707.06347",
    feedback=kinds.REWARDED_PROMPTS,
    defaults={
        "source": "online",
        "sampler.responses": 1,
        "round_prompts": 64,
        "round_passes": 4,
        "batch_size": 16,
        "learning_rate": 8e-6,
        "schedule": "constant",
        "adam_beta2": 0.95,
        "weight_decay": 1e-6,
    },
    sources=kinds.GATHERED,
    evaluates=False,
    needs_scores=True,
    figures=("online/score", "objective/kl", "loss/value", "policy/clipfrac"),
)
def ppo(
    *, kl_coef: kinds.KLCoef = 0.05, kl_target: kinds.NonNegative | None = 6.0,
    kl_horizon: kinds.Positive = 10_000.0, gamma: kinds.Gamma = 1.0, gae_lambda: kinds.UnitInterval = 0.95,
    clip: kinds.ClipRange = 0.2, value_clip: kinds.Positive = 0.2, value_weight: kinds.ValueWeight = 1.0,
    entropy_coef: kinds.NonNegative = 0.0, scale_scores: bool = True,
    clip_reward: kinds.NonNegative | None = 10.0, missing_end_penalty: kinds.MissingEndPenalty = 0.0,
    whiten_rewards: bool = False, whiten_advantages: bool = True,
    logit_temperature: kinds.LogitTemperature = 1.0, reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Move a little towards what scored above expectation, several times over each round of responses.

    Args:
        kl_target: KL divergence of a response, in nats, that kl_coef is steered towards; 0 keeps kl_coef as it is.
        kl_horizon: Responses over which kl_coef moves by a fifth at most.
        gae_lambda: Advantages trust the value head at 0 and only what was seen at 1.
        clip: How far a token's ratio pi / pi_old may move from 1 before it earns nothing more.
        value_clip: How far a value may move within a round before it earns nothing more.
        entropy_coef: Weight of a bonus for the entropy of every token's distribution; 0 computes none.
        scale_scores: Divide scores by the standard deviation of all of the run so far.
        clip_reward: Largest size of a score, once scaled; 0 leaves it.
        whiten_rewards: Divide a round's token rewards by their standard deviation; their mean is left.
        whiten_advantages: Bring a round's advantages to mean 0 and standard deviation 1.
    """
    made = kinds.objectives.rollout.GeneralisedAdvantages(
        kinds.objectives.rollout.KLControl(kl_coef, kl_target or None, kl_horizon), gamma=gamma,
        gae_lambda=gae_lambda, scale_scores=scale_scores, clip_reward=clip_reward or None,
        missing_end_penalty=missing_end_penalty, whiten_rewards=whiten_rewards,
        whiten_advantages=whiten_advantages,
    )  # fmt: skip
    loss = kinds.with_settings(
        kinds.objectives.ppo.ppo, clip=clip, value_clip=value_clip, value_weight=value_weight, entropy_coef=entropy_coef
    )
    return kinds.policy_gradient(
        loss, reference, made, parts=("values", "entropy") if entropy_coef else ("values",),
        temperature=logit_temperature,
    )  # fmt: skip
