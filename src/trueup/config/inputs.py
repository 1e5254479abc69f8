"""What a run reads and where it writes, looked at before torch is imported.

Only names, sizes and JSON headers are read; rows of feedback and weights are checked when they are used.
"""

from __future__ import annotations

import os
from pathlib import Path

from trueup.config.annotator_inputs import check_annotator
from trueup.config.given_files import check_feedback, check_file
from trueup.errors import InputError
from trueup.model_folder import WORLD, check_model, scores_text
from trueup.settings.run_settings import RunSettings

PROMPTS = "a file with prompts or feedback, hub:OWNER/NAME, or world:prompts"


def check_inputs(settings: RunSettings) -> None:
    """Check the model's folder, files of feedback and prompts, annotator, chat template and output folder.

    Raises:
        InputError: something is absent, incomplete or would run code, or the output folder holds a run
            already or cannot be written; with what to do about it.
    """
    _check_output(settings.output)
    if settings.model != WORLD:
        check_model(settings.model, trust_remote_code=settings.trust_remote_code)
    for name in (*settings.data, *settings.eval_data):
        if not name.startswith(f"{WORLD}:"):
            check_feedback(name)
    if settings.chat_template is not None:
        check_file(settings.chat_template, "a file with a Jinja chat template")
    if settings.source != "replay":
        _check_gathering(settings)


def _check_gathering(settings: RunSettings) -> None:
    """What samples and judges; a replay needs neither."""
    for name in settings.prompts:
        if not name.startswith(f"{WORLD}:"):
            check_feedback(name, PROMPTS)
    for folder in settings.sampler.models:
        if folder == WORLD:
            continue
        try:
            check_model(folder, trust_remote_code=settings.trust_remote_code)
        except InputError as error:
            raise InputError(f"sampler.models: {error}") from None
        if scores_text(folder):
            raise InputError(f"sampler.models: {folder} is a reward model, and writes nothing; leave it out")
    if settings.annotator is not None:
        check_annotator(settings.annotator, trust_remote_code=settings.trust_remote_code)


def _check_output(folder: str) -> None:
    path = Path(folder)
    if (path / "run.yaml").exists():
        raise InputError(
            f"{folder} holds a run already: go on with it by --resume {folder}, or give another output"
        )
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise InputError(f"output {folder}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output {folder}: {existing} cannot be written by this user")
