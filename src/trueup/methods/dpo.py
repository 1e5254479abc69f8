"""Direct preference optimization and its variants: other rewards, margins and weights of pairs."""

from trueup.methods import kinds
from trueup.methods.kinds import AnyReference, Beta, Frozen, Method, SFTWeight


@kinds.of_pairs(
    name="dpo",
    title="Direct preference optimization",
    formula="-log sigmoid(beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="Rafailov et al., 2023, https://arxiv.org/abs/2305.18290",
    trl_loss="sigmoid sigmoid_norm",
)
def dpo(
    *,
    beta: Beta = 0.1,
    label_smoothing: kinds.WrongShare = 0.0,
    per_token: kinds.PerTokenGap = False,
    sft_weight: SFTWeight = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Raise the likelihood of chosen responses over rejected ones, relative to a reference.

    Args:
        label_smoothing: Share of pairs whose order is taken to be wrong; above 0 it is cDPO.
    """
    from trueup.objectives import dpo as objective

    loss = kinds.with_settings(objective.dpo, beta=beta, label_smoothing=label_smoothing, per_token=per_token)
    return kinds.pairwise(loss, reference, sft_weight)


@kinds.of_pairs(
    name="robust-dpo",
    title="Robust DPO",
    formula="[-(1 - e) log sigmoid(m) + e log sigmoid(-m)] / (1 - 2 e), m the margin of DPO",
    paper="Chowdhury et al., 2024, https://arxiv.org/abs/2403.00409",
    trl_loss="robust",
)
def robust_dpo(
    *,
    beta: Beta = 0.1,
    label_smoothing: kinds.WrongShare = 0.1,
    sft_weight: SFTWeight = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """DPO for pairs of which a known share is in the wrong order.

    Args:
        label_smoothing: Share of pairs whose order is wrong, which the loss makes up for.
    """
    from trueup.objectives import dpo as objective

    loss = kinds.with_settings(objective.robust_dpo, beta=beta, label_smoothing=label_smoothing)
    return kinds.pairwise(loss, reference, sft_weight)


@kinds.of_pairs(
    name="tr-dpo",
    title="Trust-region DPO",
    formula="DPO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="sigmoid",
)
def tr_dpo(
    *,
    beta: Beta = 0.05,
    sft_weight: SFTWeight = 0.0,
    reference: kinds.TrustRegion = kinds.TrustRegion(alpha=0.6, every=512),
) -> Method:
    """DPO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    return dpo(beta=beta, sft_weight=sft_weight, reference=reference)


@kinds.of_pairs(
    name="f-dpo",
    title="DPO with an f-divergence",
    formula="-log sigmoid(beta f'(u(chosen)) - beta f'(u(rejected))), u = p / p_reference",
    paper="Wang et al., 2023, https://arxiv.org/abs/2309.16240",
)
def f_dpo(
    *,
    beta: Beta = 0.1,
    divergence: kinds.Divergence = "js",
    alpha: kinds.ClipRange = 0.5,
    sft_weight: SFTWeight = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """DPO that keeps to the reference by another divergence than the reverse KL.

    Args:
        divergence: What the constraint is: the forward KL, Jensen-Shannon, or the alpha-divergence.
        alpha: Of the alpha-divergence; towards 0 it is the reverse KL of DPO, towards 1 the forward KL.
    """
    from trueup.objectives import dpo as objective

    loss = kinds.with_settings(objective.f_dpo, beta=beta, divergence=divergence, alpha=alpha)
    return kinds.pairwise(loss, reference, sft_weight)


@kinds.of_pairs(
    name="ld-dpo",
    title="Length-desensitized DPO",
    formula="DPO whose log-ratios count the tokens beyond the length of the shorter response alpha times",
    paper="Liu et al., 2024, https://arxiv.org/abs/2409.06411",
)
def ld_dpo(
    *,
    beta: Beta = 0.1,
    ld_alpha: kinds.UnitInterval = 0.5,
    sft_weight: SFTWeight = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """DPO in which what the longer response says beyond the shorter one counts less.

    Args:
        ld_alpha: How much the tokens beyond the length of the shorter response count; 1 is DPO.
    """
    from trueup.objectives import dpo as objective

    loss = kinds.with_settings(objective.ld_dpo, beta=beta, alpha=ld_alpha)
    return kinds.pairwise(loss, reference, sft_weight)


@kinds.of_pairs(
    name="dpo-positive",
    title="DPO-Positive",
    formula="-log sigmoid(beta (log-ratio(chosen) - log-ratio(rejected) - penalty max(0, -log-ratio(chosen))))",
    paper="Pal et al., 2024, https://arxiv.org/abs/2402.13228",
)
def dpo_positive(
    *,
    beta: Beta = 0.3,
    penalty: kinds.NonNegative = 50.0,
    sft_weight: SFTWeight = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """DPO that does not let chosen responses become less likely than they are under the reference.

    Args:
        penalty: Of each nat by which a chosen response is less likely than under the reference; lambda in the paper.
    """
    from trueup.objectives import dpo as objective

    loss = kinds.with_settings(objective.dpo_positive, beta=beta, penalty=penalty)
    return kinds.pairwise(loss, reference, sft_weight)


@kinds.of_pairs(
    name="wpo",
    title="Weighted preference optimization",
    formula="w(chosen) w(rejected) DPO, w the likelihood per token over that of a draw, as it is now",
    paper="Zhou et al., 2024, https://arxiv.org/abs/2406.11827",
)
def wpo(*, beta: Beta = 0.1, sft_weight: SFTWeight = 0.0, reference: AnyReference = Frozen()) -> Method:
    """DPO in which pairs count as much as the policy would have written them itself."""
    from trueup.objectives import dpo as objective

    loss = kinds.with_settings(objective.wpo, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight, parts=("collision",))


@kinds.of_pairs(
    name="exo",
    title="Efficient exact optimization",
    formula="KL(q, p) of q = sigmoid(beta (log-ratio(chosen) - log-ratio(rejected))) from p = 1 - label_smoothing",
    paper="Ji et al., 2024, https://arxiv.org/abs/2402.00856",
    trl_loss="exo_pair",
)
def exo(
    *,
    beta: Beta = 0.1,
    label_smoothing: kinds.SomeShare = 1e-3,
    sft_weight: SFTWeight = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Match the probability that the order is right by the reverse KL divergence.

    Args:
        label_smoothing: Share of pairs whose order is taken to be wrong; above 0, or the divergence has no bound.
    """
    from trueup.objectives import dpo as objective

    loss = kinds.with_settings(objective.exo, beta=beta, label_smoothing=label_smoothing)
    return kinds.pairwise(loss, reference, sft_weight)


@kinds.of_pairs(
    name="apo-down",
    title="Anchored preference optimization, down",
    formula="sigmoid(beta log-ratio(chosen)) + 1 - sigmoid(beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266",
    trl_loss="apo_down",
)
def apo_down(*, beta: Beta = 0.1, sft_weight: SFTWeight = 0.0, reference: AnyReference = Frozen()) -> Method:
    """Lower chosen responses, and rejected ones more; for chosen responses worse than what the policy writes."""
    from trueup.objectives import dpo as objective

    return kinds.pairwise(kinds.with_settings(objective.apo_down, beta=beta), reference, sft_weight)


@kinds.of_pairs(
    name="apo-zero",
    title="Anchored preference optimization, zero",
    formula="1 - sigmoid(beta log-ratio(chosen)) + sigmoid(beta log-ratio(rejected))",
    paper="D'Oosterlinck et al., 2024, https://arxiv.org/abs/2408.06266",
    trl_loss="apo_zero",
)
def apo_zero(*, beta: Beta = 0.1, sft_weight: SFTWeight = 0.0, reference: AnyReference = Frozen()) -> Method:
    """Raise chosen responses and lower rejected ones; for chosen responses better than what the policy writes."""
    from trueup.objectives import dpo as objective

    return kinds.pairwise(kinds.with_settings(objective.apo_zero, beta=beta), reference, sft_weight)


@kinds.of_pairs(
    name="nca",
    title="Noise contrastive alignment",
    formula="-log sigmoid(r(chosen)) - log sigmoid(-r(chosen)) / 2 - log sigmoid(-r(rejected)) / 2, r = beta log-ratio",
    paper="Chen et al., 2024, https://arxiv.org/abs/2402.05369",
    trl_loss="nca_pair",
)
def nca(*, beta: Beta = 0.1, sft_weight: SFTWeight = 0.0, reference: AnyReference = Frozen()) -> Method:
    """Raise chosen responses themselves, not only over rejected ones."""
    from trueup.objectives import dpo as objective

    return kinds.pairwise(kinds.with_settings(objective.nca, beta=beta), reference, sft_weight)


@kinds.of_pairs(
    name="sppo",
    title="Self-play preference optimization, hard form",
    formula="(log-ratio(chosen) - 1/(2 beta))^2 + (log-ratio(rejected) + 1/(2 beta))^2",
    paper="Wu et al., 2024, https://arxiv.org/abs/2405.00675",
    defaults={"learning_rate": 5e-7},
    trl_loss="sppo_hard",
)
def sppo(*, beta: Beta = 0.1, sft_weight: SFTWeight = 0.0, reference: AnyReference = Frozen()) -> Method:
    """Pull the two log-ratios to plus and minus 1 / (2 beta)."""
    from trueup.objectives import dpo as objective

    return kinds.pairwise(kinds.with_settings(objective.sppo, beta=beta), reference, sft_weight)
