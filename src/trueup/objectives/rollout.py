"""How a round of responses becomes something to learn from: rewards, advantages, value targets.

Pure functions of what policy, value head and reference say of the round's responses; the source computes those
(`trueup.sources.rollouts`), so that the result does not depend on how the round was cut for computing it.

Shape suffixes: N rows (responses), S scored tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from trueup.batch.logprobs import LogProbs


@dataclass(frozen=True, slots=True)
class Round:
    """A round of responses, before anything was learned from them."""

    log_probs: LogProbs
    """Under the policy that wrote them, with values where the method has a value head; no gradients."""
    reference: LogProbs | None
    """Under the reference; None without one."""
    score_N: Tensor
    """[N] float64, what the annotator said of each response."""
    group_N: Tensor
    """[N] int64, which prompt each answers, counted from 0."""
    ended_N: Tensor
    """[N] bool, False where a response ran out of tokens."""


@dataclass(frozen=True, slots=True)
class Learnable:
    """What a method makes of a round."""

    advantage_S: Tensor
    """[S] float32."""
    target_S: Tensor
    """[S] float32, what the value head is to predict; zeros without one."""
    metrics: Mapping[str, float]
    """Of the round, such as `objective/kl` and `objective/rlhf_reward`."""
    memory: Mapping[str, float] = field(default_factory=dict)
    """What the next round has to know: the KL coefficient, running moments of the reward. JSON-ready."""


class Rollout(Protocol):
    """Makes a round learnable."""

    def __call__(self, given: Round, memory: Mapping[str, float]) -> Learnable:
        """Rewards, advantages and targets.

        Args:
            memory: what the round before left; empty at the first.
        """
        ...
