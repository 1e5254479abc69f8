"""What the methods that put rewards on one scale share. Hu et al., 2023, https://arxiv.org/abs/2308.12050."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

RewardMean = Annotated[
    float | None,
    Field(description="Mean that is taken off every reward. Left out: that of the training data."),
]
RewardStd = Annotated[
    Annotated[float, Field(gt=0)] | None,
    Field(
        description="Standard deviation that every reward is divided by. Left out: that of the training data."
    ),
]
DEFAULTS: Mapping[str, object] = {
    "learning_rate": 5e-6,
    "schedule": "constant",
    "batch_size": 128,
    "adam_beta2": 0.95,
    "weight_decay": 0.01,
}
"""Of the run, from the first author's code in NeMo-Aligner."""


def measured(settings: Any) -> str:
    """What is measured over all of the training data (`MethodInfo.measures`)."""
    absent = [name for name in ("reward_mean", "reward_std") if getattr(settings, name) is None]
    what = {"reward_mean": "the mean", "reward_std": "the standard deviation"}
    return (
        f"{' and '.join(what[name] for name in absent)} of all rewards; give {' and '.join(absent)}"
        if absent
        else ""
    )
