"""Who judges: checked before anything is done, and loaded only where something is left to judge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from trueup.annotators.annotator import Annotator
from trueup.config.named_files import check_annotator
from trueup.display import Display
from trueup.gathering.work import Work
from trueup.settings.annotator_settings import AnnotatorChoice
from trueup.sources.annotator import make_annotator

Load = Callable[[Display, Work], Annotator]
"""Loads it, with whom to warn and what tells it to stop."""
AT_ONCE = ("function", "world")
"""Kinds that are made once, early: a function's file is the user's and is run only once."""


def prepared(choice: AnnotatorChoice, *, seed: int, device: str, trust_remote_code: bool) -> Load:
    """Check an annotator as far as it can be without loading a model.

    Raises:
        InputError: a file, a folder, a template, a function, an instruction or a price is not as it should be.
    """
    check_annotator(choice, trust_remote_code=trust_remote_code)
    make = partial(make_annotator, choice, seed=seed, device=device, trust_remote_code=trust_remote_code)
    if choice.kind in AT_ONCE:
        ready = make()
        return lambda display, work: ready
    if choice.kind == "openai":
        make()  # nothing is sent
    return lambda display, work: make()
