"""The rows of a batch, one for each response, as objectives see them: what a model says of each, and how they relate.
What a model says are log-probabilities of tokens, or scores. How rows relate is one frozen index type for each kind of
feedback. Row numbers refer to `LogProbs`: the rows of a group are consecutive, and `first_rows[g]` is the first one of
group g. A response that stands in three pairs is one row.
Shape suffixes: N rows, P pairs, G groups, S scored tokens of all rows, R scored tokens of one response."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueup.feedback import records

Floats = npt.NDArray[np.float32]
Part = Literal["values", "entropy", "collision"]
"""What may be asked of a language model beside log-probabilities; see `LogProbs.value_S` and those below it."""


def row_sums(values_S: Tensor, length_N: Tensor) -> Tensor:
    # Its check of the lengths would wait for a device.
    unsafe = values_S.device.type != "cpu"
    return torch.segment_reduce(values_S, "sum", lengths=length_N, initial=0, unsafe=unsafe)


@dataclass(frozen=True)
class LogProbs:
    """log p(y_t | x, y_<t) in nats, of the scored tokens only; rows lie one after the other.
    Two responses of 2 and 1 tokens: `LogProbs(token_S=[-1.0, -2.0, -0.5], length_N=[2, 1])`, so `sum = [-3.0, -0.5]`
    and `mean = [-1.5, -0.5]`. There is no padding, hence nothing to mask: a log-probability of 0 is a value, never a
    marker."""

    token_S: Tensor  # [S] float32 (float64 in tests)
    length_N: Tensor  # [N] int64, scored tokens of each row, summing to S
    prompt_N: Tensor | None = None  # [N] int64, tokens of the prompt before each row; None where it is not known
    value_S: Tensor | None = None
    """[S] what a value head expects of the rest of the response, before each scored token; None if not asked for."""
    entropy_S: Tensor | None = None
    """[S] entropy of the distribution of what each scored token could have been, in nats; None if not asked for."""
    collision_S: Tensor | None = None
    """[S] log sum_v p(v)^2 over what each scored token could have been, without a gradient; None if not asked for."""

    @cached_property
    def sum(self) -> Tensor:
        """[N] log p(y | x), in nats; float32 at least, since hundreds of tokens are added."""
        token_S = self.token_S.to(torch.promote_types(self.token_S.dtype, torch.float32))
        return row_sums(token_S, self.length_N)

    @cached_property
    def mean(self) -> Tensor:
        """[N] log p(y | x) per scored token; 0 for a row without any."""
        return self.sum / self.length_N.clamp(min=1)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a reward model says of responses: one number each, read at the last token; higher is better."""

    score_N: Tensor  # [N] float32, on a scale of the model's own


@dataclass(frozen=True, slots=True)
class Pairs:
    """Row `chosen_P[i]` was preferred to row `rejected_P[i]` with probability `probability_P[i]`."""

    chosen_P: Tensor  # [P] int64 row numbers
    rejected_P: Tensor
    probability_P: Tensor  # [P] float32 in (0.5, 1]

    @classmethod
    def collate(cls, relations: Sequence[records.PairRelation], first_rows: Sequence[int]) -> "Pairs":
        pairs = [
            (first + chosen, first + rejected, probability)
            for relation, first in zip(relations, first_rows, strict=True)
            for chosen, rejected, probability in relation.pairs
        ]
        kinds = (torch.int64, torch.int64, torch.float32)
        chosen, rejected, probability = (
            torch.tensor([pair[at] for pair in pairs], dtype=kind) for at, kind in enumerate(kinds)
        )
        return cls(chosen, rejected, probability)


@dataclass(frozen=True, slots=True)
class PairsWithTarget:
    """Pairs, and for each of them a response to imitate."""

    pairs: Pairs
    target_P: Tensor

    @classmethod
    def collate(
        cls, relations: Sequence[records.DemonstratedPairRelation], first_rows: Sequence[int]
    ) -> "PairsWithTarget":
        """The demonstration of a group is imitated beside each of its pairs."""
        targets = [
            first + relation.demonstration
            for relation, first in zip(relations, first_rows, strict=True)
            for _ in relation.pairs.pairs
        ]
        pairs = Pairs.collate([relation.pairs for relation in relations], first_rows)
        return cls(pairs, torch.tensor(targets, dtype=torch.int64))

    @classmethod
    def collate_chosen(cls, relations: Sequence[records.PairRelation], first_rows: Sequence[int]) -> "PairsWithTarget":
        pairs = Pairs.collate(relations, first_rows)
        return cls(pairs, pairs.chosen_P)


@dataclass(frozen=True, slots=True)
class GradedPairs:
    """Pairs, and how much better the chosen response of each was found."""

    pairs: Pairs
    gap_P: Tensor  # [P] float32, the difference of the scores of the two, at least 0; 0 where one has none

    @classmethod
    def collate(cls, relations: Sequence[records.GradedPairRelation], first_rows: Sequence[int]) -> "GradedPairs":
        pairs = Pairs.collate([relation.pairs for relation in relations], first_rows)
        gaps = [gap for relation in relations for gap in relation.gaps]
        return cls(pairs, torch.tensor(gaps, dtype=torch.float32))


@dataclass(frozen=True, slots=True)
class Rankings:
    """Rows of one group answer one prompt; a higher score is better."""

    score_N: Tensor  # [N] float32; comparable only within a group
    group_N: Tensor  # [N] int64, the group of each row
    num_groups: int

    @classmethod
    def collate(cls, relations: Sequence[records.RankRelation], first_rows: Sequence[int]) -> "Rankings":
        sizes = torch.tensor([len(relation.scores) for relation in relations], dtype=torch.int64)
        scores = [score for relation in relations for score in relation.scores]
        group_N = torch.repeat_interleave(torch.arange(len(relations)), sizes)
        return cls(torch.tensor(scores, dtype=torch.float32), group_N, len(relations))


@dataclass(frozen=True, slots=True)
class Points:
    label_N: Tensor  # [N] float32 in [0, 1]; 1 is fully desirable
    demonstration_N: Tensor  # [N] bool, True for a response to imitate

    @classmethod
    def collate(cls, relations: Sequence[records.PointRelation], first_rows: Sequence[int]) -> "Points":
        labels = [label for relation in relations for label in relation.labels]
        demonstrations = [flag for relation in relations for flag in relation.demonstrations]
        return cls(torch.tensor(labels, dtype=torch.float32), torch.tensor(demonstrations, dtype=torch.bool))


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """Every row is to be imitated."""

    @classmethod
    def collate(cls, relations: Sequence[records.DemonstrationRelation], first_rows: Sequence[int]) -> "Demonstrations":
        return cls()


@dataclass(frozen=True, slots=True)
class Weighted:
    weight_N: Tensor  # [N] float32, at least 0

    @classmethod
    def collate(cls, relations: Sequence[records.WeightRelation], first_rows: Sequence[int]) -> "Weighted":
        weights = [weight for relation in relations for weight in relation.weights]
        return cls(torch.tensor(weights, dtype=torch.float32))


@dataclass(frozen=True, slots=True, eq=False)
class RolloutRow:
    """One response; every array is [R] float32, one number for each of its scored tokens."""

    old_log_prob: Floats  # log p under the policy that wrote it, in nats
    advantage: Floats
    """How much better the token was than expected; constant over the response where a method knows no better."""
    target: Floats  # what the value head is to predict before the token; zeros for methods without one
    old_value: Floats  # what the value head predicted before the token; zeros for methods without one


@dataclass(frozen=True, slots=True, eq=False)
class RolloutRelation:
    """The responses of one group, in order."""

    rows: tuple[RolloutRow, ...]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The index of policy-gradient objectives: tokens lie as in `LogProbs.token_S`."""

    old_log_prob_S: Tensor  # [S] float32
    advantage_S: Tensor
    target_S: Tensor
    old_value_S: Tensor

    @classmethod
    def collate(cls, relations: Sequence[RolloutRelation], first_rows: Sequence[int]) -> "Rollouts":
        rows = [row for relation in relations for row in relation.rows]
        joined = (np.concatenate([getattr(row, one.name) for row in rows]) for one in fields(RolloutRow))
        return cls(*map(torch.from_numpy, joined))
