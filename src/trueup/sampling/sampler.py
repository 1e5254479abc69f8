"""What a sampler is: something that writes responses to prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from trueup.feedback.records import Prompt


@dataclass(frozen=True, slots=True)
class Sampled:
    """One response to one prompt."""

    text: str
    """Without the tokens that end it, and up to a stop text."""
    ids: tuple[int, ...] | None
    """As the policy wrote them, with its end of sequence where it wrote one; None where they are not known or the
    text was cut at a stop text, so that they would say more than it."""
    log_probs: tuple[float, ...] | None
    """log p of each of `ids` in nats under the policy itself, before temperature, top-p and top-k; None where it is
    not known."""
    ended: bool
    """Whether the response is whole: the policy ended it or a stop text did; False where it ran out of tokens."""
    source: str
    """Who wrote it: the name of the model."""
    version: int
    """Optimizer steps behind the weights that wrote it."""


class Sampler(Protocol):
    """Writes responses; which, is a function of its weights and the seed alone."""

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        """`responses` responses to each prompt, in the order of the prompts.

        A prompt that leaves no room for a response gets none.

        Raises:
            InputError: a prompt cannot be expressed by the tokenizer or its chat template.
            AnnotatorError: a server cannot be reached or understood.
        """
        ...

    def refresh(self, version: int) -> None:
        """Write with the policy as it is now, after `version` optimizer steps, from here on."""
        ...

    def state(self) -> Mapping[str, Tensor]:
        """Weights to keep in a checkpoint where they are not those of the policy any more; else nothing."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """Go back to a saved state, in place of `refresh`; without tensors the weights are the policy's own."""
        ...
