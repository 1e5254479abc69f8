"""What a reward model says of responses, as objectives see it.

Shape suffixes: N rows (one row is one response).
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """One number a response, read at its last token; higher is better."""

    score_N: Tensor
    """[N] float32, on a scale of the model's own."""

    @property
    def num_rows(self) -> int:
        return self.score_N.shape[0]

    def detach(self) -> "Scores":
        return Scores(self.score_N.detach())
