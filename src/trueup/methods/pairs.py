"""Other losses of pairs, relative to a reference or without one, and the reward model."""

from typing import Literal

from trueup.feedback import views
from trueup.methods import kinds
from trueup.methods.kinds import AnyReference, Beta, Frozen, Method, SFTWeight


@kinds.of_pairs(
    name="ipo",
    title="Identity preference optimization",
    formula="(log-ratio(chosen) - log-ratio(rejected) - 1/(2 beta))^2",
    paper="Azar et al., 2023, https://arxiv.org/abs/2310.12036",
    trl_loss="ipo",
)
def ipo(
    *,
    beta: Beta = 0.1,
    per_token: kinds.PerTokenGap = False,
    sft_weight: SFTWeight = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Pull the log-ratios of each pair 1 / (2 beta) apart, and no further."""
    from trueup.objectives import pairs as objective

    loss = kinds.with_settings(objective.ipo, beta=beta, per_token=per_token)
    return kinds.pairwise(loss, reference, sft_weight)


@kinds.of_pairs(
    name="tr-ipo",
    title="Trust-region IPO",
    formula="IPO; every `every` steps: reference <- alpha policy + (1 - alpha) reference",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    defaults={"learning_rate": 1e-6, "max_grad_norm": 2.0},
    trl_loss="ipo",
)
def tr_ipo(
    *,
    beta: Beta = 0.05,
    per_token: kinds.PerTokenGap = False,
    sft_weight: SFTWeight = 0.0,
    reference: kinds.TrustRegion = kinds.TrustRegion(alpha=0.6, every=512),
) -> Method:
    """IPO with a reference that moves towards the policy; alpha = 1 is the paper's hard update."""
    return ipo(beta=beta, per_token=per_token, sft_weight=sft_weight, reference=reference)


@kinds.of_pairs(
    name="slic",
    title="Sequence likelihood calibration against a reference",
    formula="max(0, 1 - beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="Liu et al., 2023, https://arxiv.org/abs/2309.06657",
    trl_loss="hinge",
)
def slic(*, beta: Beta = 0.05, sft_weight: SFTWeight = 0.0, reference: AnyReference = Frozen()) -> Method:
    """Raise chosen responses over rejected ones, relative to a reference, until they are 1 / beta apart."""
    from trueup.objectives import pairs as objective

    return kinds.pairwise(kinds.with_settings(objective.slic, beta=beta), reference, sft_weight)


@kinds.method(
    name="slic-hf",
    title="Sequence likelihood calibration with human feedback",
    formula="max(0, margin - log p(chosen) + log p(rejected)) - regularization log p(target)",
    paper="Zhao et al., 2023, https://arxiv.org/abs/2305.10425",
    feedback=f"{kinds.PAIRS}; with target demonstration, these too",
    defaults={"learning_rate": 1e-6},
    least_responses=2,
    figures=("loss", "rewards/accuracies", "rewards/margins", "logps/chosen"),
)
def slic_hf(
    *,
    margin: kinds.NonNegative = 1.0,
    regularization: kinds.NonNegative = 0.1,
    target: Literal["chosen", "demonstration"] = "chosen",
) -> Method:
    """Make chosen responses likelier than rejected ones by a margin, and keep a target likely; no reference.

    Args:
        margin: How much likelier a chosen response is to become than the rejected one, in nats.
        regularization: Weight of imitating the target.
        target: What is imitated beside each pair: its chosen response, or a demonstration of the same example;
            examples without one are then left out.
    """
    from trueup.batch.rows import PairsWithTarget
    from trueup.objectives import pairs as objective

    loss = kinds.with_settings(objective.slic_hf, margin=margin, regularization=regularization)
    if target == "chosen":
        return kinds.without_reference(views.pairs, PairsWithTarget.collate_chosen, loss)
    return kinds.without_reference(views.pairs_with_demonstration, PairsWithTarget.collate, loss)


@kinds.of_pairs(
    name="paired-kto",
    title="KTO on pairs",
    formula="(1 - sigmoid(beta (rho_w - z_l)) + 1 - sigmoid(beta (z_w - rho_l))) / 2, z = max(0, mean of rho)",
    paper="Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656",
    trl_loss="kto_pair",
)
def paired_kto(
    *, beta: Beta = 0.1, sft_weight: SFTWeight = 0.0, reference: AnyReference = Frozen()
) -> Method:
    """Measure each side of a pair against how far the other side has moved on average."""
    from trueup.objectives import pairs as objective

    loss = kinds.over_step(objective.LOG_RATIOS, objective.paired_kto, beta=beta)
    return kinds.pairwise(loss, reference, sft_weight)


@kinds.of_pairs(
    name="cpo",
    title="Contrastive preference optimization",
    formula="-log sigmoid(beta (log p(chosen) - log p(rejected))) - sft_weight log p(chosen) per token",
    paper="Xu et al., 2024, https://arxiv.org/abs/2401.08417",
    figures=("loss", "rewards/accuracies", "rewards/margins", "logps/chosen"),
)
def cpo(*, beta: kinds.Positive = 0.1, sft_weight: SFTWeight = 1.0) -> Method:
    """Make chosen responses likelier than rejected ones, and imitate them; no reference.

    Args:
        beta: Reward per nat.
    """
    from trueup.objectives import pairs as objective

    return kinds.pairwise(kinds.with_settings(objective.cpo, beta=beta), kinds.NoReference(), sft_weight)


@kinds.of_pairs(
    name="orpo",
    title="Odds ratio preference optimization",
    formula="-log p(chosen) - beta log sigmoid(log-odds(chosen) - log-odds(rejected)), p the likelihood per token",
    paper="Hong et al., 2024, https://arxiv.org/abs/2403.07691",
    defaults={"learning_rate": 5e-6},
    figures=("loss", "rewards/accuracies", "rewards/margins", "logps/chosen"),
)
def orpo(*, beta: kinds.Positive = 0.1, sft_weight: SFTWeight = 1.0) -> Method:
    """Imitate chosen responses, and raise their odds over those of rejected ones; no reference, no model before it.

    Args:
        beta: Weight of the odds ratio; lambda in the paper.
    """
    from trueup.objectives import pairs as objective

    return kinds.pairwise(kinds.with_settings(objective.orpo, beta=beta), kinds.NoReference(), sft_weight)


@kinds.of_pairs(
    name="simpo",
    title="Simple preference optimization",
    formula="-log sigmoid(beta (log p(chosen) - log p(rejected)) - margin), log p the log-likelihood per token",
    paper="Meng et al., 2024, https://arxiv.org/abs/2405.14734",
    defaults={"learning_rate": 1e-6, "schedule": "cosine", "warmup_ratio": 0.1, "batch_size": 128},
    trl_loss="simpo",
    figures=("loss", "rewards/accuracies", "rewards/margins", "logps/chosen"),
)
def simpo(
    *, beta: kinds.Positive = 2.0, margin: kinds.NonNegative = 1.0, sft_weight: SFTWeight = 0.0
) -> Method:
    """Make chosen responses likelier per token than rejected ones, by a margin; no reference.

    Args:
        beta: Reward per nat a token.
        margin: How far the reward of a chosen response is to be above that of the rejected one; gamma in the paper.
    """
    from trueup.objectives import pairs as objective

    loss = kinds.with_settings(objective.simpo, beta=beta, margin=margin)
    return kinds.pairwise(loss, kinds.NoReference(), sft_weight)


@kinds.of_pairs(
    name="reward-model",
    title="Reward model",
    formula="-log sigmoid(r(chosen) - r(rejected) - margin) + centring (r(chosen) + r(rejected))^2",
    paper="Lee et al., 2023, https://arxiv.org/abs/2309.00267",
    defaults={"learning_rate": 1e-5},
    sources=("offline",),
    figures=("loss", "rewards/accuracies", "rewards/margins"),
)
def reward_model(
    *,
    margin: kinds.NonNegative = 0.0,
    margin_per_score: kinds.NonNegative = 0.0,
    centring: kinds.NonNegative = 0.01,
) -> Method:
    """Learn scores whose differences are the log-odds of one response being preferred to the other.

    Args:
        margin: By how much the score of the chosen response has to exceed the other's.
        margin_per_score: Added to the margin for every unit by which the chosen response was scored higher.
        centring: Weight of the squared sum of a pair's scores, which holds their level at 0.
    """
    from trueup.batch.rows import GradedPairs
    from trueup.objectives.pairs import bradley_terry

    loss = kinds.with_settings(
        bradley_terry, margin=margin, margin_per_score=margin_per_score, centring=centring
    )
    return kinds.without_reference(views.graded_pairs, GradedPairs.collate, loss, output="scores")
