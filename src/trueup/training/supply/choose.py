"""The supply that a run's settings ask for."""

from __future__ import annotations

from typing import Any

from trueup.config.compatibility import refuse_annotator
from trueup.errors import InputError
from trueup.methods.method import Method
from trueup.settings.run_settings import RunSettings
from trueup.training.supply.offline import Offline
from trueup.training.supply.supply import Supply


def read_supply(settings: RunSettings, method: Method[Any, Any, Any]) -> Supply:
    """Read what a run's examples are, or will be made of.

    Raises:
        InputError: it cannot be read, or the method cannot use it.
    """
    if settings.prompts and settings.source != "replay":
        refuse_annotator(settings, method)
    if settings.source == "online":
        from trueup.training.supply.online import Online

        return Online(settings, method)
    if settings.source == "replay":
        from trueup.training.supply.replay import Replay

        return Replay(settings, method)
    if settings.prompts:
        if method.output == "scores":
            raise InputError(
                f"method {method.name} trains a model that scores and writes nothing, so there is nobody to answer the "
                "prompts. Sample with `trueup sample`, judge with `trueup annotate`, and give that file as --data"
            )
        from trueup.training.supply.collected import Collected

        return Collected(settings)
    return Offline(settings, method)
