"""What a policy-gradient method makes of a round, given to the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trueup.batch.tokens import TokenGroup
from trueup.objectives.rollout import Rollout
from trueup.sources.rollouts import from_tensors, learnable, to_tensors
from trueup.training.supply.supply import Context


@dataclass(frozen=True)
class RolloutLearning:
    """Measures a round under policy and reference and has the method make it learnable."""

    rollout: Rollout
    context: Context

    def __call__(
        self, groups: Sequence[TokenGroup[Any]], memory: Mapping[str, float]
    ) -> tuple[list[TokenGroup[Any]], Mapping[str, float], Mapping[str, float]]:
        context = self.context
        return learnable(
            groups, context.policy, context.reference, self.rollout, memory,
            end_ids=context.loaded.end_ids, budget=context.settings.micro_batch_tokens, poll=context.poll,
        )  # fmt: skip

    def saved(self, groups: Sequence[TokenGroup[Any]]) -> Mapping[str, Tensor]:
        return to_tensors(groups)

    def restored(
        self, groups: Sequence[TokenGroup[Any]], tensors: Mapping[str, Tensor]
    ) -> list[TokenGroup[Any]]:
        return from_tensors(groups, tensors)
