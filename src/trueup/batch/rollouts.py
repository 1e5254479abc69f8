"""What a policy-gradient method learns from: responses with what was known of them when they were written.

Shape suffixes: N rows (responses), S scored tokens of all rows, R scored tokens of one response.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class RolloutRow:
    """One response; every array is [R] float32, one number for each of its scored tokens."""

    old_log_prob: Array
    """log p under the policy that wrote it, in nats."""
    advantage: Array
    """How much better the token was than expected; constant over the response where a method knows no better."""
    target: Array
    """What the value head is to predict before the token; zeros for methods without one."""
    old_value: Array
    """What the value head predicted before the token; zeros for methods without one."""


@dataclass(frozen=True, slots=True, eq=False)
class RolloutRelation:
    """The responses of one group, in order."""

    rows: tuple[RolloutRow, ...]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The index of policy-gradient objectives: tokens lie as in `LogProbs.token_S`."""

    old_log_prob_S: Tensor
    """[S] float32."""
    advantage_S: Tensor
    """[S] float32."""
    target_S: Tensor
    """[S] float32."""
    old_value_S: Tensor
    """[S] float32."""

    @classmethod
    def collate(cls, relations: Sequence[RolloutRelation], first_rows: Sequence[int]) -> "Rollouts":
        rows = [row for relation in relations for row in relation.rows]
        return cls(
            *(
                torch.from_numpy(np.concatenate([getattr(row, field.name) for row in rows]))
                for field in fields(RolloutRow)
            )
        )

    def to(self, device: torch.device) -> "Rollouts":
        return Rollouts(*(getattr(self, field.name).to(device) for field in fields(self)))
