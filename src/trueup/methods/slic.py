"""Sequence likelihood calibration against a reference. Liu et al., 2023, https://arxiv.org/abs/2309.06657."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trueup.feedback import views
from trueup.feedback.records import PairRelation
from trueup.methods.method import Beta, Method, method
from trueup.references.choices import AnyReference, Frozen

if TYPE_CHECKING:
    from trueup.batch.index import Pairs
    from trueup.batch.logprobs import LogProbs


@method(
    name="slic",
    title="Sequence likelihood calibration against a reference",
    formula="max(0, 1 - beta (log-ratio(chosen) - log-ratio(rejected)))",
    paper="Liu et al., 2023, https://arxiv.org/abs/2309.06657",
    feedback="pairs, or anything that orders two responses to one prompt",
    defaults={"learning_rate": 1e-6},
    trl_loss="hinge",
    least_responses=2,
)
def slic(*, beta: Beta = 0.05, reference: AnyReference = Frozen()) -> Method[PairRelation, Pairs, LogProbs]:
    """Raise chosen responses over rejected ones, relative to a reference, until they are 1 / beta apart."""
    from trueup.batch.index import Pairs
    from trueup.objectives import slic as objective

    return Method(views.pairs, Pairs.collate, partial(objective.slic, beta=beta), reference)
