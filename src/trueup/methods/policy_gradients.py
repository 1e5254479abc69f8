"""Learning from the rewards of what the policy has just written."""

from trueup.methods import kinds
from trueup.methods.kinds import AnyReference, Frozen, Method


@kinds.of_rewards(
    name="ppo",
    title="Proximal policy optimization",
    formula="max(-A rho, -A clip(rho, 1 +- clip)) + value_weight/2 (V - R)^2 - entropy_coef H a token, "
    "rho = pi / pi_old, A by GAE",
    paper="Schulman et al., 2017, https://arxiv.org/abs/1707.06347",
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
    figures=("online/score", "objective/kl", "loss/value", "policy/clipfrac"),
)
def ppo(
    *,
    kl_coef: kinds.KLCoef = 0.05,
    kl_target: kinds.NonNegative | None = 6.0,
    kl_horizon: kinds.Positive = 10_000.0,
    gamma: kinds.Gamma = 1.0,
    gae_lambda: kinds.UnitInterval = 0.95,
    clip: kinds.ClipRange = 0.2,
    value_clip: kinds.Positive = 0.2,
    value_weight: kinds.ValueWeight = 1.0,
    entropy_coef: kinds.NonNegative = 0.0,
    scale_scores: bool = True,
    clip_reward: kinds.NonNegative | None = 10.0,
    missing_end_penalty: kinds.MissingEndPenalty = 0.0,
    whiten_rewards: bool = False,
    whiten_advantages: bool = True,
    logit_temperature: kinds.LogitTemperature = 1.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Move a little towards what scored above expectation, several times over each round of responses.

    Args:
        kl_target: KL divergence of a response, in nats, that kl_coef is steered towards; 0 keeps kl_coef as it
            is.
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
    from trueup.objectives import policy_gradients, rollout

    made = rollout.GeneralisedAdvantages(
        rollout.KLControl(kl_coef, kl_target or None, kl_horizon),
        gamma=gamma,
        gae_lambda=gae_lambda,
        scale_scores=scale_scores,
        clip_reward=clip_reward or None,
        missing_end_penalty=missing_end_penalty,
        whiten_rewards=whiten_rewards,
        whiten_advantages=whiten_advantages,
    )
    loss = kinds.with_settings(
        policy_gradients.ppo,
        clip=clip,
        value_clip=value_clip,
        value_weight=value_weight,
        entropy_coef=entropy_coef,
    )
    return kinds.policy_gradient(
        loss,
        reference,
        made,
        parts=("values", "entropy") if entropy_coef else ("values",),
        temperature=logit_temperature,
    )


@kinds.of_rewards(
    name="reinforce",
    title="REINFORCE with a value baseline",
    formula="sum over tokens of -(Z - V) log pi + value_weight (Z - V)^2, Z the rewards to come, Z - V held fixed",
    paper="Lee et al., 2023, https://arxiv.org/abs/2309.00267",
    defaults={
        "source": "online",
        "sampler.responses": 1,
        "sampler.temperature": 0.9,
        "batch_size": 128,
        "learning_rate": 1e-5,
        "epochs": 8.0,
    },
    figures=("online/score", "objective/kl", "loss/policy", "loss/value"),
)
def reinforce(
    *,
    kl_coef: kinds.KLCoef = 0.05,
    gamma: kinds.Gamma = 1.0,
    value_weight: kinds.ValueWeight = 0.1,
    missing_end_penalty: kinds.MissingEndPenalty = 0.0,
    logit_temperature: kinds.LogitTemperature = 1.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Make responses likelier by how much more they earned than a value head expected."""
    from trueup.objectives import policy_gradients, rollout

    loss = kinds.with_settings(policy_gradients.reinforce, value_weight=value_weight)
    baseline = rollout.ValueBaseline(kl_coef, gamma, missing_end_penalty)
    return kinds.policy_gradient(loss, reference, baseline, parts=("values",), temperature=logit_temperature)


@kinds.of_rewards(
    name="rloo",
    title="REINFORCE with a leave-one-out baseline",
    formula="-A log pi(y | x), A = R - mean R of the other responses, R = score - kl_coef log pi / pi_ref",
    paper="Ahmadian et al., 2024, https://arxiv.org/abs/2402.14740",
    defaults={"source": "online", "sampler.responses": 4, "learning_rate": 1e-6},
    least_responses=2,
    figures=("online/score", "objective/kl", "policy/approxkl"),
)
def rloo(
    *,
    kl_coef: kinds.KLCoef = 0.03,
    missing_end_penalty: kinds.MissingEndPenalty = 0.0,
    logit_temperature: kinds.LogitTemperature = 1.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Make responses likelier by how much more they earned than the others to the same prompt."""
    from trueup.objectives import policy_gradients, rollout

    baseline = rollout.LeaveOneOut(kl_coef, missing_end_penalty)
    return kinds.policy_gradient(
        policy_gradients.rloo, reference, baseline, least_responses=2, temperature=logit_temperature
    )


@kinds.of_rewards(
    name="grpo",
    title="Group relative policy optimization",
    formula="max(-A rho, -A clip(rho, 1 - clip, 1 + clip_high)) + kl_coef k3 a token, rho = pi / pi_old, "
    "A = (R - mean R) / std R of the responses to a prompt",
    paper="Shao et al., 2024, https://arxiv.org/abs/2402.03300",
    defaults={"source": "online", "sampler.responses": 8, "learning_rate": 1e-6, "schedule": "constant"},
    trl_loss="grpo dapo bnpo dr_grpo",
    least_responses=2,
    figures=("online/score", "objective/kl", "policy/clipfrac"),
)
def grpo(
    *,
    kl_coef: kinds.NonNegative = 0.04,
    clip: kinds.ClipRange = 0.2,
    clip_high: kinds.Positive | None = None,
    advantage_scale: kinds.AdvantageScale = "group",
    sequence_ratio: bool = False,
    average_over: kinds.AverageOver = "responses",
    loss_length: kinds.Positive = 1024.0,
    missing_end_penalty: kinds.MissingEndPenalty = 0.0,
    logit_temperature: kinds.LogitTemperature = 1.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Move a little towards what scored above the other responses to the same prompt.

    Args:
        kl_coef: Weight of the KL divergence from the reference, estimated token by token in the loss (k3).
        clip: How far a ratio pi / pi_old may fall below 1 before it earns nothing more.
        clip_high: The same above 1. Left out: that of clip.
        advantage_scale: Divide advantages by the standard deviation of the prompt's scores, of the round's, or not.
        sequence_ratio: One ratio for a response, the geometric mean of its tokens', in place of one for each token.
        average_over: Average over a response's tokens and then the responses; over all tokens of the batch; or divide
            each response's sum by loss_length.
        loss_length: Tokens that sums are divided by with average_over constant.
    """
    from trueup.objectives import policy_gradients, rollout

    loss = kinds.with_settings(
        policy_gradients.grpo,
        kl_coef=kl_coef,
        clip=clip,
        clip_high=clip if clip_high is None else clip_high,
        sequence_ratio=sequence_ratio,
        average_over=average_over,
        loss_length=loss_length,
    )
    made = rollout.GroupAdvantages(advantage_scale, missing_end_penalty)
    return kinds.policy_gradient(
        loss, reference, made, least_responses=2, temperature=logit_temperature, reference_in_loss=kl_coef > 0
    )
