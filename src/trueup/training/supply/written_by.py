"""The run that wrote a log, and in what a replay of the log departs from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trueup.config.layers import flatten
from trueup.config.run_file import dump, load_run
from trueup.errors import InputError
from trueup.methods.method import Method
from trueup.settings.run_settings import RunSettings
from trueup.settings.schema import settings_in
from trueup.words import listed

RESULT = frozenset(setting.path for setting in settings_in(RunSettings) if setting.affects == "result")
"""Settings that change what a replay ends with."""


def departures(log: Path, settings: RunSettings, method: Method[Any, Any, Any]) -> list[str]:
    """A warning where the run in whose folder the log lies had other settings; nothing where there is no such run."""
    try:
        began = load_run(log.parent)
    except InputError:
        return []
    before = {"method": began.method, **flatten(dict(dump(began)["method_settings"])), **_of(began.settings)}
    now = {"method": method.name, **flatten(dict(method.settings)), **_of(settings)}
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names and before["method"] != now["method"]:
        names = ["method"]
    if not names:
        return []
    said = listed([f"{name} {_shown(now.get(name))} (was {_shown(before.get(name))})" for name in names])
    return [
        f"{log} was written by a run with other settings, and this one ends with other weights: {said}. For the same "
        f"ones give --config {log.parent / 'run.yaml'}"
    ]


def _of(settings: RunSettings) -> dict[str, Any]:
    values = flatten(settings.model_dump(mode="json"))
    return {name: value for name, value in values.items() if name in RESULT}


def _shown(value: object) -> str:
    return "left out" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
