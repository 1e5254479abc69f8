"""What an annotator reads, looked at before torch is imported."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from trueup.config.annotator_names import REWARD_FORMS, is_function
from trueup.config.given_files import check_file
from trueup.errors import InputError
from trueup.model_folder import WORLD, check_model, scores_text
from trueup.settings.annotator_settings import (
    TEMPLATES,
    AnnotatorChoice,
    EndpointAnnotator,
    FunctionAnnotator,
    LikelihoodAnnotator,
    LocalAnnotator,
    RewardAnnotator,
    WorldAnnotator,
)
from trueup.words import as_given, did_you_mean

FUNCTION = "FILE.py:FUNCTION, as in rewards.py:brevity"


def check_annotator(choice: AnnotatorChoice, *, trust_remote_code: bool) -> None:
    """Check the folders and files that an annotator is made of.

    Raises:
        InputError: one is absent or incomplete, or its model is of another kind.
    """
    match choice:
        case LocalAnnotator():
            _check_language_model(choice.kind, choice.model, trust_remote_code)
            _check_template(choice.template)
        case EndpointAnnotator():
            _check_template(choice.template)
        case RewardAnnotator():
            _check_reward_model(choice.model, trust_remote_code)
        case LikelihoodAnnotator():
            _check_language_model(choice.kind, choice.model, trust_remote_code)
        case FunctionAnnotator():
            if not is_function(choice.function):
                raise InputError(
                    f"annotator.function {as_given(choice.function)} names no function; give {FUNCTION}"
                )
            check_file(choice.function.rpartition(":")[0], f"a file with the function, as {FUNCTION}")
        case WorldAnnotator():
            pass
        case _:
            assert_never(choice)


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
