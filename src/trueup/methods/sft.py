"""Supervised fine-tuning: imitate demonstrations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.records import DemonstrationRelation
from trueup.methods.method import Method, method
from trueup.references.choices import NoReference

if TYPE_CHECKING:
    from trueup.batch.index import Demonstrations

PerToken = Annotated[
    bool,
    Field(description="Average over the tokens of a batch; false averages over its responses."),
]


@method(
    name="sft",
    title="Supervised fine-tuning",
    formula="-log p(response | prompt)",
    feedback="demonstrations; of pairs and rankings, the best response",
    defaults={"learning_rate": 1e-5},
    trl_loss="nll",
)
def sft(*, per_token: PerToken = True) -> Method[DemonstrationRelation, Demonstrations, None]:
    """Raise the likelihood of demonstrations."""
    from trueup.batch.index import Demonstrations
    from trueup.objectives import sft as objective

    return Method(
        views.demonstrations,
        Demonstrations.collate,
        partial(objective.sft, per_token=per_token),
        NoReference(),
    )
