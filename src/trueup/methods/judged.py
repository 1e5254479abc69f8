"""Learning from comparisons of what the policy has just written."""

from typing import Literal

from trueup.methods import kinds
from trueup.methods.dpo import dpo
from trueup.methods.kinds import AnyReference, Beta, Frozen, Method, SFTWeight
from trueup.methods.pairs import ipo, slic

BETA = {"dpo": 0.1, "ipo": 1.0, "slic": 0.002}
"""The paper's."""


@kinds.of_judged(
    name="oaif",
    title="Online AI feedback",
    formula="DPO, IPO or SLiC on pairs of responses that the policy has just written and an annotator has compared",
    paper="Guo et al., 2024, https://arxiv.org/abs/2402.04792",
    defaults={
        "source": "online",
        "learning_rate": 5e-7,
        "batch_size": 128,
        "sampler.responses": 2,
        "sampler.temperature": 0.9,
    },
    aliases=("online-dpo",),
    figures=("loss", "online/score", "rewards/accuracies", "kl"),
)
def oaif(
    *,
    objective: Literal["dpo", "ipo", "slic"] = "dpo",
    beta: kinds.Positive | None = None,
    sft_weight: SFTWeight = 0.0,
    reference: AnyReference = Frozen(),
) -> Method:
    """Sample two responses with the policy as it is, ask which is better, and learn from the answer at once.

    Args:
        objective: What is learned from the annotator's preferences.
        beta: Strength of the KL constraint. Left out: 0.1 for dpo, 1 for ipo, 0.002 for slic.
    """
    strength = BETA[objective] if beta is None else beta
    chosen = {"dpo": dpo, "ipo": ipo, "slic": slic}[objective]
    return chosen(beta=strength, sft_weight=sft_weight, reference=reference)


@kinds.of_judged(
    name="nash-md",
    title="Nash mirror descent",
    formula="-(P(y > y') - 1/2) log pi(y) + beta/2 log-ratio(y)^2, y' of the mixture pi^(1 - a) pi_ref^a",
    paper="Munos et al., 2023, https://arxiv.org/abs/2312.00886",
    defaults={"source": "online", "learning_rate": 5e-7, "sampler.responses": 1},
    evaluates=False,
    opponent=True,
    figures=("policy/wins", "online/score", "kl"),
)
def nash_md(
    *, beta: Beta = 0.1, mixture: kinds.SomeOrAll = 0.5, reference: AnyReference = Frozen()
) -> Method:
    """Be preferred to the mixture of the policy and its reference.

    Args:
        mixture: a, the weight of the reference in the geometric mixture; 1 is the reference alone.
    """
    from trueup.objectives import pairs as objective

    return kinds.pairwise(kinds.with_settings(objective.nash_md, beta=beta), reference, mixture=mixture)


@kinds.of_judged(
    name="xpo",
    title="Exploratory preference optimization",
    formula="DPO + alpha log pi(y_ref), of a response of the policy and one of the reference, y_ref",
    paper="Xie et al., 2024, https://arxiv.org/abs/2405.21046",
    defaults={"source": "online", "learning_rate": 5e-7, "sampler.responses": 1},
    evaluates=False,
    opponent=True,
    figures=("loss", "online/score", "rewards/accuracies", "kl"),
)
def xpo(*, beta: Beta = 0.1, alpha: kinds.NonNegative = 1e-5, reference: AnyReference = Frozen()) -> Method:
    """Learn by DPO from pairs of policy and reference, and be drawn away from what the reference writes.

    Args:
        alpha: Weight of making the reference's response less likely, per nat; 0 is DPO.
    """
    from trueup.objectives import pairs as objective

    return kinds.pairwise(kinds.with_settings(objective.xpo, beta=beta, alpha=alpha), reference, mixture=1.0)
