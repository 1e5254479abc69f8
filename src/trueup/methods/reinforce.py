"""REINFORCE with a value baseline. Lee et al., 2023, https://arxiv.org/abs/2309.00267."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from trueup.feedback import views
from trueup.methods import shared
from trueup.methods.method import Method, method
from trueup.references.choices import AnyReference, Frozen

if TYPE_CHECKING:
    from trueup.batch.index import Rollouts
    from trueup.batch.logprobs import LogProbs


@method(
    name="reinforce",
    title="REINFORCE with a value baseline",
    formula="sum over tokens of -(Z - V) log pi + value_weight (Z - V)^2, Z the rewards to come, Z - V held fixed",
    paper="Lee et al., 2023, https://arxiv.org/abs/2309.00267",
    feedback=shared.ROLLOUT_FEEDBACK,
    defaults={
        "source": "online",
        "sampler.responses": 1,
        "sampler.temperature": 0.9,
        "batch_size": 128,
        "learning_rate": 1e-5,
        "epochs": 8.0,
    },
    sources=shared.ROLLOUT_SOURCES,
    needs_scores=True,
)
def reinforce(
    *,
    kl_coef: shared.KLCoef = 0.05,
    gamma: shared.Gamma = 1.0,
    value_weight: shared.ValueWeight = 0.1,
    missing_end_penalty: shared.MissingEndPenalty = 0.0,
    reference: AnyReference = Frozen(),
) -> Method[Any, Rollouts, LogProbs]:
    """Make responses likelier by how much more they earned than a value head expected."""
    from trueup.batch.index import Rollouts
    from trueup.objectives import reinforce as objective
    from trueup.objectives.rollout import ValueBaseline

    return Method(
        views.scored,
        Rollouts.collate,
        partial(objective.reinforce, value_weight=value_weight),
        reference,
        parts=("values",),
        reference_in_loss=False,
        rollout=ValueBaseline(kl_coef, gamma, missing_end_penalty),
    )
