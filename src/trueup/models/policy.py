"""What the training loop asks of the model it trains, whatever is read of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import nn

from trueup.batch.logprobs import LogProbs, Scores
from trueup.batch.stream import Stream


class Policy(Protocol):
    """A network read as a function of streams."""

    network: nn.Module
    """In a format of transformers or PEFT, as it is exported."""

    @property
    def device(self) -> torch.device: ...

    def outputs(self, stream: Stream) -> LogProbs | Scores:
        """What objectives read, differentiable in the parameters."""
        ...

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that an optimizer moves, by name; it may hold more than `network` does."""
        ...

    def without_dropout(self) -> AbstractContextManager[None]:
        """The function itself: no dropout, and nothing drawn from the random state."""
        ...
