"""What work depends on: settings, and the content or the state of what they name.

Work that was stopped goes on only where all of it is as it was; what cannot change a result is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from trueup.feedback.canonical import example_to_row, prompt_parts
from trueup.feedback.records import Example, Prompt
from trueup.settings.annotator_settings import AnnotatorChoice
from trueup.settings.gathering_settings import AnnotateSettings, SampleSettings
from trueup.settings.schema import settings_in

HOW = frozenset(
    one.path.rpartition(".")[2]
    for one in settings_in(SampleSettings)
    if one.affects == "nothing" and "." in one.path
)
"""Settings of a server or an annotator that say how it is asked and what it may cost, not what is asked."""
CHOICE: TypeAdapter[AnnotatorChoice] = TypeAdapter(AnnotatorChoice)


def of_sampling(
    settings: SampleSettings, prompts: Iterable[Prompt], also: Iterable[Example]
) -> dict[str, object]:
    """Name -> what the work of `trueup sample` depends on; JSON-ready."""
    found = _plain(settings)
    found |= _without_how(settings.sampler.model_dump(mode="json"))
    found["data"] = digest_of([prompt_parts(one) for one in prompts])
    found["data with feedback"] = digest_of([example_to_row(one) for one in also])
    found["files of the model"] = [state_of(folder) for folder in settings.model]
    found["chat_template"] = _content(settings.chat_template)
    if settings.annotator is not None:
        found |= _of_annotator(settings.annotator)
    return found


def of_annotating(settings: AnnotateSettings, examples: Iterable[Example]) -> dict[str, object]:
    """Name -> what the work of `trueup annotate` depends on; JSON-ready."""
    found = _plain(settings)
    if not settings.rewrite:
        found = {name: value for name, value in found.items() if not name.startswith("rewrite_")}
    if settings.rewrite:
        found["rewrite_template"] = [settings.rewrite_template, _content(settings.rewrite_template)]
    found["data"] = digest_of([example_to_row(one) for one in examples])
    return found | _of_annotator(settings.annotator)


def _plain(settings: BaseModel) -> dict[str, object]:
    """The settings that change the result, but for those whose content counts and not their name."""
    names = {one.path for one in settings_in(type(settings)) if one.affects == "result"}
    return settings.model_dump(mode="json", include=names - {"annotator", "chat_template"})


def state_of(folder: str) -> list[list[object]]:
    """Names, sizes and times of the files in a model's folder; nothing where there is none."""
    path = Path(folder)
    if not path.is_dir():
        return []
    files = sorted(file for file in path.iterdir() if file.is_file())
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def digest_of(value: object) -> str:
    """SHA-256 of a JSON-ready value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _of_annotator(choice: AnnotatorChoice) -> dict[str, object]:
    plain = _without_how(CHOICE.dump_python(choice, mode="json"))
    named: dict[str, object] = {f"annotator.{name}": value for name, value in plain.items()}
    if choice.about.weights is not None:
        named["files of the annotator"] = state_of(plain[choice.about.main])
    named["annotator's template"] = _content(plain.get("template"))
    named["annotator's function"] = _content(str(plain.get("function", "")).rpartition(":")[0])
    return named


def _without_how(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if name not in HOW}


def _content(file: str | None) -> str | None:
    """The hash of a file's bytes; None of a name that is no file."""
    path = Path(file or "")
    return hashlib.sha256(path.read_bytes()).hexdigest() if file and path.is_file() else None
