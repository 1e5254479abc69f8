"""A run's own record of its settings, run.yaml: written when it starts, read when it resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from trueup.config.layers import flatten, overlay, read_yaml
from trueup.config.resolve import Resolved, asked_for, find_method, read_layers, settle
from trueup.errors import InputError
from trueup.settings.run_settings import RESUME_MAY_CHANGE, RunSettings

RUN_FILE = "run.yaml"
KEYS = {"method": str, "method_settings": dict, "settings": dict}


def dump(resolved: Resolved) -> dict[str, Any]:
    """Return the settings as plain values for run.yaml; other keys may be added beside them."""
    return {
        "method": resolved.method,
        "method_settings": resolved.method_settings.model_dump(mode="json"),
        "settings": resolved.settings.model_dump(mode="json"),
    }


def load_run(
    run: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    method_name: str | None = None,
    config_file: str | Path | None = None,
) -> Resolved:
    """Read the settings of a run that is to be resumed.

    Args:
        run: the run's folder. It is the output of what is returned, wherever the run was when it began.
        overrides: settings given again; one that differs must be among `RESUME_MAY_CHANGE`.
        method_name: what the user takes the run's method for.
        config_file: YAML with settings given again.

    Raises:
        InputError: there is no run, its run.yaml is damaged, or a setting would change the result.
    """
    values = _read(run)
    path = Path(run) / RUN_FILE
    try:
        info = find_method(values["method"])
        layer = flatten(
            {**values["method_settings"], **asked_for(values["settings"], info), "output": str(run)}
        )
        began = Resolved(info.name, info, *settle(info, layer, {}))
    except InputError as error:
        raise InputError(f"{path} is damaged, or from another version of trueup: {error}") from None
    if method_name is not None and find_method(method_name) is not info:
        raise InputError(f"{run} is a run of method {info.name}; resume it with trueup train {info.name}")

    given = read_layers(info, config_file, overrides or {})
    again = {name: value for name, value in given.layer.items() if not _same_folder(name, value, run)}
    resumed = replace(began, notes=given.notes)
    if again:
        resumed = Resolved(info.name, info, *settle(info, overlay(layer, again), given.origins), given.notes)
    changed = [
        *_changed(began.method_settings, resumed.method_settings),
        *_changed(began.settings, resumed.settings),
    ]
    if refused := [name for name in changed if name not in RESUME_MAY_CHANGE]:
        raise InputError(
            f"{', '.join(refused)} cannot change when a run is resumed, as the result could change: leave it "
            f"out, or start a new run in another folder (what can change: {', '.join(_changeable(began.settings))})"
        )
    return resumed


def read_facts(run: str | Path) -> dict[str, Any]:
    """Return what run.yaml holds beside the settings: versions, fingerprints, and what else was added.

    Raises:
        InputError: there is no run, or its run.yaml is damaged.
    """
    return {key: value for key, value in _read(run).items() if key not in KEYS}


def changeable(resolved: Resolved) -> dict[str, Any]:
    """The settings that another sitting of the run may have otherwise, by dotted name."""
    layer = flatten(dump(resolved)["settings"])
    return {name: layer[name] for name in _changeable(resolved.settings) if name in layer}


def _read(run: str | Path) -> dict[str, Any]:
    path = Path(run) / RUN_FILE
    if not path.is_file():
        raise InputError(
            f"{run} is not a run, as it has no {RUN_FILE}; give the folder that was the output when it began"
        )
    values = read_yaml(path).values
    if missing := [key for key, kind in KEYS.items() if not isinstance(values.get(key), kind)]:
        raise InputError(f"{path} is damaged: it has no {', '.join(missing)}")
    return values


def _same_folder(name: str, value: object, run: str | Path) -> bool:
    return name == "output" and isinstance(value, str) and Path(value).resolve() == Path(run).resolve()


def _changeable(settings: RunSettings) -> list[str]:
    """What may change when such a run is resumed; nothing of annotator and sampler where there are none."""
    return sorted(name for name in RESUME_MAY_CHANGE if settings.gathers or "." not in name)


def _changed(before: object, after: object, prefix: str = "") -> list[str]:
    """Dotted names of the settings that differ."""
    names: list[str] = []
    for name in _settings_of(before):
        one, other = getattr(before, name), getattr(after, name)
        if one == other:
            continue
        inner = type(one) is type(other) and _settings_of(one)
        names += _changed(one, other, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return names


def _settings_of(group: object) -> list[str]:
    """Names of the settings in a group of them; nothing of a value."""
    if isinstance(group, BaseModel):
        return list(type(group).model_fields)
    return [field.name for field in fields(group)] if is_dataclass(group) else []
