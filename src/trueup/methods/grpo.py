from trueup.methods import kinds


@kinds.method(
    name="grpo",
    title="Group relative policy optimization",
    formula="max(-A rho, -A clip(rho, 1 - clip, 1 + clip_high)) + kl_coef k3 a token, rho = pi / pi_old, "
    "A = (R - mean R) / std R of the responses to a prompt",
    paper="Shao et al., 2024, https://arxiv.org/abs/2402.03300",
    feedback=kinds.REWARDED_PROMPTS,
    defaults={"source": "online", "sampler.responses": 8, "learning_rate": 1e-6, "schedule": "constant"},
    trl_loss="grpo dapo bnpo dr_grpo",
    sources=kinds.GATHERED,
    evaluates=False,
    needs_scores=True,
    least_responses=2,
    figures=("online/score", "objective/kl", "policy/clipfrac"),
)
def grpo(
    *, kl_coef: kinds.NonNegative = 0.04, unbiased_kl: bool = False, clip: kinds.ClipRange = 0.2,
    clip_high: kinds.Positive | None = None, advantage_scale: kinds.AdvantageScale = "group",
    sequence_ratio: bool = False, average_over: kinds.AverageOver = "responses",
    loss_length: kinds.Positive = 1024.0, missing_end_penalty: kinds.MissingEndPenalty = 0.0,
    logit_temperature: kinds.LogitTemperature = 1.0, reference: kinds.AnyReference = kinds.Frozen(),
) -> kinds.Method:  # fmt: skip
    """Move a little towards what scored above the other responses to the same prompt.

    Args:
        kl_coef: Weight of the KL divergence from the reference, estimated token by token in the loss (k3).
        unbiased_kl: Multiply that estimate by the ratio pi / pi_old, so that its gradient is that of the divergence.
        clip: How far a ratio pi / pi_old may fall below 1 before it earns nothing more.
        clip_high: The same above 1. Left out: that of clip.
        advantage_scale: Divide advantages by the standard deviation of the prompt's scores, of the round's, or not.
        sequence_ratio: One ratio for a response, the geometric mean of its tokens', in place of one for each token.
        average_over: Average over a response's tokens and then the responses; over all tokens of the batch; or divide
            each response's sum by loss_length.
        loss_length: Tokens that sums are divided by with average_over constant.
    """
    loss = kinds.with_settings(
        kinds.objectives.grpo.grpo, kl_coef=kl_coef, unbiased_kl=unbiased_kl, clip=clip,
        clip_high=clip if clip_high is None else clip_high, sequence_ratio=sequence_ratio,
        average_over=average_over, loss_length=loss_length,
    )  # fmt: skip
    made = kinds.objectives.rollout.GroupAdvantages(advantage_scale, missing_end_penalty)
    return kinds.policy_gradient(
        loss, reference, made, least_responses=2, temperature=logit_temperature, reference_in_loss=kl_coef > 0
    )
