"""Log-probabilities of responses, as objectives see them.

Shape suffixes: N rows (one row is one response), S scored tokens of all rows together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
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
    """[S] what a value head expects of the rest of the response, before each scored token; None without such a head."""

    @property
    def sum(self) -> Tensor:
        """[N] log p(y | x), in nats; float32 at least, since hundreds of tokens are added."""
        token_S = self.token_S.to(torch.promote_types(self.token_S.dtype, torch.float32))
        return torch.segment_reduce(token_S, "sum", lengths=self.length_N, initial=0)

    @property
    def mean(self) -> Tensor:
        """[N] log p(y | x) per scored token; 0 for a row without any."""
        return self.sum / self.length_N.clamp(min=1)

    @property
    def num_rows(self) -> int:
        return self.length_N.shape[0]

    def detach(self) -> "LogProbs":
        value_S = None if self.value_S is None else self.value_S.detach()
        return LogProbs(self.token_S.detach(), self.length_N, self.prompt_N, value_S)
