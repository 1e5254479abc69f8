"""Files and folders that settings name: whether they are there, whole and fit for it; known before torch is imported.

Only names, sizes and JSON headers are read; rows of feedback and weights are checked when they are used.
"""

from __future__ import annotations

import os
from pathlib import Path

from trueup.config.annotator_names import is_function
from trueup.errors import InputError
from trueup.feedback.containers import absent_hint, inside, refuse_unreadable
from trueup.feedback.hub import is_hub
from trueup.feedback.tables import is_saved
from trueup.model_folder import WORLD, check_model, scores_text
from trueup.settings.annotator_settings import REWARD_FORMS, TEMPLATES, AnnotatorChoice
from trueup.settings.run_settings import RunSettings
from trueup.words import as_given, did_you_mean

FEEDBACK = "a file with feedback, hub:OWNER/NAME, or world:pairs, world:rankings, ..."
PROMPTS = "a file with prompts or feedback, hub:OWNER/NAME, or world:prompts"
FUNCTION = "FILE.py:FUNCTION, as in rewards.py:brevity"


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


def check_annotator(choice: AnnotatorChoice, *, trust_remote_code: bool) -> None:
    """Check the folders and files that an annotator is made of.

    Raises:
        InputError: one is absent or incomplete, or its model is of another kind.
    """
    about, given = choice.about, vars(choice)
    if about.weights == "language model":
        _check_language_model(choice.kind, given[about.main], trust_remote_code)
    elif about.weights == "reward model":
        _check_reward_model(given[about.main], trust_remote_code)
    if "template" in given:
        _check_template(given["template"])
    if "function" in given:
        _check_function(given["function"])


def _check_function(name: str) -> None:
    if not is_function(name):
        raise InputError(f"annotator.function {as_given(name)} names no function; give {FUNCTION}")
    check_file(name.rpartition(":")[0], f"a file with the function, as {FUNCTION}")


def _check_language_model(kind: str, folder: str, trust_remote_code: bool) -> None:
    if folder == WORLD:
        return
    _check_folder(f"annotator.kind {kind}", folder, trust_remote_code)
    if scores_text(folder):
        raise InputError(
            f"annotator.kind {kind} needs a causal language model, and {folder} is a reward model; give reward:{folder}"
        )


def _check_reward_model(folder: str, trust_remote_code: bool) -> None:
    if folder == WORLD:
        raise InputError("the world has no reward model of its own; give world:gold or world:proxy")
    if not Path(folder).exists() and "/" not in folder:
        raise InputError(f"reward model {folder} is not a folder; give {REWARD_FORMS}")
    _check_folder("annotator.kind reward", folder, trust_remote_code)
    if not scores_text(folder):
        raise InputError(
            f"{folder} is a language model, no reward model (a sequence classifier with one output); give "
            f"likelihood:{folder} to score by its log-likelihood, or make one by trueup train reward-model"
        )


def _check_folder(whose: str, folder: str, trust_remote_code: bool) -> None:
    try:
        check_model(folder, trust_remote_code=trust_remote_code)
    except InputError as error:
        raise InputError(f"{whose}: {error}") from None


def _check_template(name: str) -> None:
    if name in TEMPLATES or Path(name).is_file():
        return
    close = did_you_mean(name, TEMPLATES)
    check_file(name, f"one of {', '.join(TEMPLATES)}, or a file with a Jinja template{close}")


def check_feedback(name: str, what: str = FEEDBACK) -> None:
    """Check that a file of rows is there; the hub is asked only when it is read."""
    path = Path(name)
    if is_hub(name) or is_saved(path):
        refuse_unreadable(name)
    elif path.is_dir():
        raise InputError(f"{name} is a folder; name a file{inside(path)}")
    else:
        check_file(name, what)


def check_file(name: str, what: str) -> None:
    """Check that a file is there and can be read; `what` is what to give instead."""
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name} is a folder; give {what}")
    if not path.exists():
        raise InputError(f"{name}: no such file{absent_hint(path)}; give {what}")
    if not os.access(path, os.R_OK):
        raise InputError(f"{name} cannot be read by this user")
