"""Supervised fine-tuning: imitate demonstrations."""

from typing import Annotated

from pydantic import Field

from trueup.feedback import views
from trueup.feedback.records import DemonstrationRelation, View
from trueup.feedback.transforms.transform import Transform
from trueup.methods.kinds import Method, method, with_settings, without_reference

PerToken = Annotated[
    bool,
    Field(description="Average over the tokens of a batch; false averages over its responses."),
]


def imitation(
    *,
    per_token: bool,
    view: View[DemonstrationRelation] = views.demonstrations,
    transforms: tuple[Transform, ...] = (),
) -> Method:
    """Make the responses that the view keeps likelier, all alike."""
    from trueup.batch.rows import Demonstrations
    from trueup.objectives import sft as objective

    loss = with_settings(objective.sft, per_token=per_token)
    return without_reference(view, Demonstrations.collate, loss, transforms=transforms)


@method(
    name="sft",
    title="Supervised fine-tuning",
    formula="-log p(response | prompt)",
    feedback="demonstrations; of pairs and rankings, the best response",
    defaults={"learning_rate": 1e-5},
    trl_loss="nll",
)
def sft(*, per_token: PerToken = True) -> Method:
    """Raise the likelihood of demonstrations."""
    return imitation(per_token=per_token)
