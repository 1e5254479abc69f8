"""What a run was begun with beside its settings: versions, fingerprints; and what must not change until it ends."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trueup import __version__
from trueup.config.run_file import read_facts
from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.models.causal import StreamModel
from trueup.models.identity import model_identity
from trueup.models.load import Loaded

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


def facts_of(policy: StreamModel, fingerprints: Mapping[str, str], loaded: Loaded) -> dict[str, Any]:
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


def check_unchanged(folder: Path, model: str, facts: Mapping[str, Any]) -> list[str]:
    """Refuse to go on with another model, other data or other tokens than the run began with.

    Args:
        folder: of the run.
        model: its name in messages.
        facts: as they are now.

    Returns:
        Warnings: versions that have changed.

    Raises:
        InputError: something else has.
    """
    before = read_facts(folder)
    changed = [
        f"{name} (was {str(old)[:16]}, is {str(facts['data_fingerprints'].get(name))[:16]})"
        for name, old in before.get("data_fingerprints", {}).items()
        if facts["data_fingerprints"].get(name) != old
    ]
    tokens, now = before.get("tokens_identity"), facts.get("tokens_identity")
    if not changed and None not in (tokens, now) and tokens != now:  # other data are other tokens anyway
        changed.append(
            f"the tokens of the data, so the tokenizer or the chat template (was {tokens}, is {now})"
        )
    if before.get("model_identity") != facts["model_identity"]:
        changed.append(f"{model} (was {before.get('model_identity')}, is {facts['model_identity']})")
    if changed:
        raise InputError(
            f"{folder}: the run cannot go on as it began, because these have changed since: {'; '.join(changed)}. Put "
            "them back, or begin a new run"
        )
    versions = facts["versions"]
    return [
        f"the run began with {name} {was} and goes on with {versions.get(name)}: not bit for bit the same"
        for name, was in before.get("versions", {}).items()
        if was != versions.get(name)
    ]
