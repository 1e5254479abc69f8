"""What a run was begun with beside its settings: versions, fingerprints; and in what another one departs from it."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trueup import __version__
from trueup.config.layers import flatten
from trueup.config.resolve import dump, load_run, read_facts
from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.methods.method import Method
from trueup.models.causal import StreamModel
from trueup.models.identity import model_identity
from trueup.models.load import Loaded
from trueup.settings.run_settings import RunSettings
from trueup.settings.schema import settings_in
from trueup.words import listed

logger = logging.getLogger(__name__)

RESULT = frozenset(setting.path for setting in settings_in(RunSettings) if setting.affects == "result")
"""Settings that change what a replay ends with."""
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


def record_of(policy: StreamModel, fingerprints: Mapping[str, str], loaded: Loaded) -> dict[str, Any]:
    """What run.yaml holds beside the settings; `tokens_identity` joins it once the tokens are known."""
    return {
        "versions": {
            "trueup": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "data_fingerprints": dict(fingerprints),
        "model_identity": model_identity(policy.network),
        "asked_with": None if loaded.condition is None else asdict(loaded.condition),
    }


def asked_as_begun(folder: Path, loaded: Loaded) -> Loaded:
    """The model with the condition it had when the run began; `trueup condition` may have changed it since."""
    facts = read_facts(folder)
    if "asked_with" not in facts:
        return loaded
    begun = facts["asked_with"]
    return replace(loaded, condition=None if begun is None else Condition(**begun))


def refuse_changed(folder: Path, model: str, record: Mapping[str, Any]) -> None:
    """Refuse to go on with another model, other data or other tokens than the run began with.

    Args:
        folder: of the run.
        model: its name in messages.
        record: as it is now.

    Raises:
        InputError: one of these has changed.
    """
    before = read_facts(folder)
    changed = [
        f"{name} (was {str(old)[:16]}, is {str(record['data_fingerprints'].get(name))[:16]})"
        for name, old in before.get("data_fingerprints", {}).items()
        if record["data_fingerprints"].get(name) != old
    ]
    tokens, now = before.get("tokens_identity"), record.get("tokens_identity")
    if not changed and None not in (tokens, now) and tokens != now:  # other data are other tokens anyway
        changed.append(
            f"the tokens of the data, so the tokenizer or the chat template (was {tokens}, is {now})"
        )
    if before.get("model_identity") != record["model_identity"]:
        changed.append(f"{model} (was {before.get('model_identity')}, is {record['model_identity']})")
    if changed:
        raise InputError(
            f"{folder}: the run cannot go on as it began, because these have changed since: {'; '.join(changed)}. Put "
            "them back, or begin a new run"
        )


def warn_of_versions(folder: Path, record: Mapping[str, Any]) -> None:
    """Say which packages are others than the run began with."""
    versions = record["versions"]
    for name, was in read_facts(folder).get("versions", {}).items():
        if was != versions.get(name):
            logger.warning(
                f"the run began with {name} {was} and goes on with {versions.get(name)}: not bit for bit the same"
            )


def warn_of_departures(log: Path, settings: RunSettings, method: Method) -> None:
    """Say in what a replay departs from the run in whose folder the log lies; nothing where there is no such run."""
    try:
        began = load_run(log.parent)
    except InputError:
        return
    before = {"method": began.method, **flatten(dict(dump(began)["method_settings"])), **_of(began.settings)}
    now = {"method": method.name, **flatten(dict(method.settings)), **_of(settings)}
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names and before["method"] != now["method"]:
        names = ["method"]
    if not names:
        return
    said = listed([f"{name} {_shown(now.get(name))} (was {_shown(before.get(name))})" for name in names])
    logger.warning(
        f"{log} was written by a run with other settings, and this one ends with other weights: {said}. For the same "
        f"ones give --config {log.parent / 'run.yaml'}"
    )


def _of(settings: RunSettings) -> dict[str, Any]:
    values = flatten(settings.model_dump(mode="json"))
    return {name: value for name, value in values.items() if name in RESULT}


def _shown(value: object) -> str:
    return "left out" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
