"""What a model says of a batch's responses, as objectives see it: log-probabilities of tokens, or scores.

Shape suffixes: N rows (one row is one response), S scored tokens of all rows together.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Part = Literal["values", "entropy"]
"""What may be asked of a language model beside log-probabilities; see `LogProbs.value_S` and `LogProbs.entropy_S`."""


def row_sums(values_S: Tensor, length_N: Tensor) -> Tensor:
    """[N] sum of each row's values."""
    # Its check of the lengths would wait for a device.
    unsafe = values_S.device.type != "cpu"
    return torch.segment_reduce(values_S, "sum", lengths=length_N, initial=0, unsafe=unsafe)


@dataclass(frozen=True)
class LogProbs:
    """log p(y_t | x, y_<t) in nats, of the scored tokens only; rows lie one after the other.

    Two responses of 2 and 1 tokens: `LogProbs(token_S=[-1.0, -2.0, -0.5], length_N=[2, 1])`, so
    `sum = [-3.0, -0.5]` and `mean = [-1.5, -0.5]`. There is no padding, hence nothing to mask: a
    log-probability of 0 is a value, never a marker.
    """

    token_S: Tensor
    """[S] float32 (float64 in tests)."""
    length_N: Tensor
    """[N] int64, scored tokens of each row, summing to S."""
    prompt_N: Tensor | None = None
    """[N] int64, tokens of the prompt before each row; None where it is not known."""
    value_S: Tensor | None = None
    """[S] what a value head expects of the rest of the response, before each scored token; None if not asked for."""
    entropy_S: Tensor | None = None
    """[S] entropy of the distribution of what each scored token could have been, in nats; None if not asked for."""

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

    score_N: Tensor
    """[N] float32, on a scale of the model's own."""
