"""REINFORCE with a leave-one-out baseline. Ahmadian et al., 2024, https://arxiv.org/abs/2402.14740."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from trueup.feedback import views
from trueup.methods.method import Method, method
from trueup.methods.shared import ROLLOUT_FEEDBACK, ROLLOUT_SOURCES, KLCoef, MissingEndPenalty
from trueup.references.choices import AnyReference, Frozen

if TYPE_CHECKING:
    from trueup.batch.index import Rollouts
    from trueup.batch.logprobs import LogProbs


@method(
    name="rloo",
    title="REINFORCE with a leave-one-out baseline",
    formula="-A log pi(y | x), A = R - mean R of the other responses, R = score - kl_coef log pi / pi_ref",
    paper="Ahmadian et al., 2024, https://arxiv.org/abs/2402.14740",
    feedback=ROLLOUT_FEEDBACK,
    defaults={
        "source": "online",
        "sampler.responses": 4,
        "learning_rate": 1e-6,
    },
    sources=ROLLOUT_SOURCES,
    needs_scores=True,
    least_responses=2,
)
def rloo(
    *,
    kl_coef: KLCoef = 0.03,
    missing_end_penalty: MissingEndPenalty = 0.0,
    reference: AnyReference = Frozen(),
) -> Method[Any, Rollouts, LogProbs]:
    """Make responses likelier by how much more they earned than the others to the same prompt."""
    from trueup.batch.index import Rollouts
    from trueup.objectives import rloo as objective
    from trueup.objectives.rollout import LeaveOneOut

    return Method(
        partial(views.scored, least=2),
        Rollouts.collate,
        objective.rloo,
        reference,
        reference_in_loss=False,
        rollout=LeaveOneOut(kl_coef, missing_end_penalty),
    )
