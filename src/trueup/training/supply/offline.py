"""Feedback that was there before."""

from __future__ import annotations

from typing import Any

from trueup.methods.method import Method
from trueup.settings.run_settings import RunSettings
from trueup.training.data import gather_examples, make_source
from trueup.training.supply.supply import Context, Supplied


class Offline:
    """Reads the run's data.

    Raises:
        InputError: a source cannot be read, or holds nothing the method can use.
    """

    def __init__(self, settings: RunSettings, method: Method[Any, Any, Any]) -> None:
        self.examples = gather_examples(settings, method)
        self.lines, self.warnings = self.examples.lines, self.examples.warnings
        self.fingerprints = self.examples.fingerprints

    def supply(self, context: Context) -> Supplied:
        source, lines = make_source(
            self.examples, context.loaded, context.settings, context.method,
            display=context.display, poll=context.poll,
        )  # fmt: skip
        return Supplied(source, lines, self.examples.condition)
