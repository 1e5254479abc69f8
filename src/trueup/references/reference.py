"""What every running reference offers, and the one that offers nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from trueup.batch.rows import LogProbs
from trueup.batch.stream import Batch


@dataclass(frozen=True, slots=True)
class State:
    """What a reference needs to go on after a restart."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON-ready; always holds `identity`."""


class BatchSource(Protocol):
    """What a reference may ask of the source of examples."""

    def upcoming(self, step: int, count: int) -> Iterable[Batch[Any]] | None:
        """Micro-batches of the `count` steps after `step`, cut as they will be computed; None when unknown."""
        return None

    def everything(self) -> Iterable[Batch[Any]] | None:
        """Micro-batches that hold every group of the run at least once, in training order; None when unknown."""
        return None

    def held_out(self) -> Iterable[Batch[Any]]:
        """Micro-batches of everything that an evaluation computes."""


class Reference(Protocol):
    """A policy to measure against. Made by `trueup.references.build`; no gradient ever reaches it."""

    identity: str = ""
    """Hash of the weights it began with, of its moves since, and nothing else; "" before it starts."""
    weights: bool = False
    """Whether a checkpoint holds weights of it. It does only where they move: a frozen one is the model that the run
    begins with, which whoever goes on with the run has read again."""
    exact: bool = True
    """True when its numbers come from the same code path as the policy's, so that equal weights give exactly
    equal log-probabilities."""

    def models(self) -> Sequence[Any]:
        """Those it holds beside the policy, each a `StreamModel`."""
        return ()

    def start(self, source: BatchSource) -> None:
        """Take the policy as it is now for the reference. Called once, before step 1 of a new run."""

    def log_probs(self, batch: Batch[Any]) -> LogProbs | None:
        """Log-probabilities of a batch's rows under the reference."""

    def update(self, step: int, source: BatchSource) -> bool:
        """Called after every optimizer step, counted from 1; True when the reference moved."""
        return False

    def state(self) -> State:
        """What a checkpoint has to hold."""
        return State(metadata={"identity": self.identity})

    def restore(self, state: State) -> None:
        """Go back to a saved state instead of `start`; before the policy goes back to its own."""
        self.identity = str(state.metadata["identity"])


class NullReference(Reference):
    """For objectives that need no reference."""

    def start(self, source: BatchSource) -> None:
        """Nothing to prepare."""

    def log_probs(self, batch: Batch[Any]) -> None:
        return None
