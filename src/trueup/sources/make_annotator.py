"""The running annotator that a choice describes. Whatever an annotator needs is imported only where it is chosen."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueup.model_folder import WORLD
from trueup.settings.annotator_settings import AnnotatorChoice

if TYPE_CHECKING:
    from trueup.annotators.annotator import Annotator


def make_annotator(
    choice: AnnotatorChoice,
    *,
    seed: int = 0,
    device: str = "auto",
    trust_remote_code: bool = False,
    spent: Path | None = None,
) -> Annotator:
    """The annotator that a choice describes, ready to judge.

    Args:
        seed: of its noise, for those that are noisy on purpose.
        device: where a model computes: `auto`, `cpu` or `cuda`.
        spent: the file that keeps what an annotator with a budget takes, so that its limits hold over all sittings of a
            run; None counts this process alone.

    Raises:
        InputError: a model's folder, a template, a function or an instruction cannot be used.
        CheckpointError: what was spent cannot be read.
    """
    about = choice.about
    settings: Any = choice
    if about.weights == "language model" and vars(settings)[about.main] == WORLD:
        from trueup.world.model import world_model_path

        settings = replace(settings, **{about.main: str(world_model_path())})
    module, _, name = about.maker.partition(":")
    maker = getattr(import_module(module), name)
    given = {"seed": seed, "device": device, "trust_remote_code": trust_remote_code, "spent": spent}
    taken = signature(maker).parameters
    made: Annotator = maker(settings, **{name: value for name, value in given.items() if name in taken})
    return made
