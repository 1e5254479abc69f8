"""Settings shared by the methods that put rewards on one scale."""

from __future__ import annotations

from typing import Annotated

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
