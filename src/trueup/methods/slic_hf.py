from typing import Literal

from trueup.methods import kinds


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
    *, margin: kinds.NonNegative = 1.0, regularization: kinds.NonNegative = 0.1,
    target: Literal["chosen", "demonstration"] = "chosen",
) -> kinds.Method:  # fmt: skip
    """Make chosen responses likelier than rejected ones by a margin, and keep a target likely; no reference.

    Args:
        margin: How much likelier a chosen response is to become than the rejected one, in nats.
        regularization: Weight of imitating the target.
        target: What is imitated beside each pair: its chosen response, or a demonstration of the same example;
            examples without one are then left out.
    """
    from trueup.batch.rows import PairsWithTarget

    loss = kinds.with_settings(kinds.objectives.slic_hf.slic_hf, margin=margin, regularization=regularization)
    if target == "chosen":
        return kinds.without_reference(kinds.views.pairs, PairsWithTarget.collate_chosen, loss)
    return kinds.without_reference(kinds.views.pairs_with_demonstration, PairsWithTarget.collate, loss)
