"""Who judges: checked before anything is done, and loaded only where something is left to judge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from trueup.annotators.annotator import Annotator
from trueup.config.named_files import check_annotator
from trueup.settings.annotator_settings import AnnotatorChoice
from trueup.sources.by_name import make_annotator


def prepared(
    choice: AnnotatorChoice, *, seed: int, device: str, trust_remote_code: bool
) -> Callable[[], Annotator]:
    """Check an annotator as far as it can be without loading a model, and hand out what loads it.

    One that has no weights is made at once: a function's file is the user's and is run only once, and an endpoint is
    asked nothing yet.

    Raises:
        InputError: a file, a folder, a template, a function, an instruction or a price is not as it should be.
    """
    check_annotator(choice, trust_remote_code=trust_remote_code)
    make = partial(make_annotator, choice, seed=seed, device=device, trust_remote_code=trust_remote_code)
    if choice.about.weights is not None:
        return make
    ready = make()
    return lambda: ready
