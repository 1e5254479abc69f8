"""Where a run's examples come from: what is read before a model is loaded, and the source that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trueup.batch.encode import Encoder, Limits
from trueup.display import Display
from trueup.feedback.condition import Condition
from trueup.methods.method import Method
from trueup.models.causal import StreamModel
from trueup.models.load import Loaded
from trueup.references.reference import Reference
from trueup.settings.run_settings import RunSettings
from trueup.sources.source import Source
from trueup.training.data import max_length
from trueup.training.folder import RunFolder


@dataclass(frozen=True)
class Context:
    """The rest of a run, as far as a source may need it."""

    settings: RunSettings
    method: Method[Any, Any, Any]
    policy: StreamModel
    loaded: Loaded
    reference: Reference
    folder: RunFolder
    display: Display
    poll: Callable[[], None]
    """May raise to stop."""
    begin: Callable[[], None] = lambda: None
    """Writes the run's settings, so that what is gathered from here on is not gathered again once it is resumed."""

    def encoder(self) -> Encoder:
        """As the model is asked: with its own condition, if it has one."""
        limits = Limits(max_length(self.loaded, self.settings), self.settings.max_prompt_length)
        return Encoder(
            self.loaded.tokenizer, end_ids=self.loaded.end_ids, limits=limits, condition=self.loaded.condition
        )


@dataclass(frozen=True)
class Supplied:
    """A source, and what is to be said and kept of it."""

    source: Source
    lines: Sequence[str]
    """For people: what became of the examples."""
    condition: Condition | None = None
    """What the method wrote into the prompts, to be kept with the model."""


class Supply(Protocol):
    """Examples of a run, or what they will be made of; reading it loads no model."""

    @property
    def lines(self) -> Sequence[str]:
        """For people: what was read."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """For people: what they should look at."""
        ...

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Source -> hash of its content."""
        ...

    def supply(self, context: Context) -> Supplied:
        """The source of the run.

        Raises:
            InputError: what was read does not suit the model; or as sampler and annotator raise it.
        """
        ...
