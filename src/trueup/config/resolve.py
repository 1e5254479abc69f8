"""What a run is to do: a method, its settings and the run's, from defaults, a file and what goes over it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from trueup import errors, model_folder, model_hub, python_objects, words
from trueup.config import layers, run_checks, trl_names
from trueup.methods.method import METHODS, MethodInfo, load_packages, package_of, reference_of
from trueup.settings import annotator_settings, schema, validation
from trueup.settings.run_settings import NO_DATA, RESUME_MAY_CHANGE, RunSettings

SHORT_NAMES = {"lr": "learning_rate", "lora_rank": "lora.rank", "cutoff_len": "max_length", "pref_beta": "beta"}
"""Names of other tools that spelling alone would not lead to ours."""
RUN_FILE = "run.yaml"
KEYS = {"method": str, "method_settings": dict, "settings": dict}


@dataclass(frozen=True, slots=True)
class Resolved:
    info: MethodInfo
    method_settings: BaseModel
    settings: RunSettings


@dataclass(frozen=True, slots=True)
class Given:
    """What the user gave, file and overrides in one layer, under our names."""

    layer: layers.Layer
    origins: dict[str, str]
    """Name -> where it was given, for messages: `run.yaml:3`; empty for what goes over the file."""
    notes: tuple[str, ...]


def resolve(
    method_name: str, *, config_file: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Resolved:
    info = find_method(method_name)
    given = read_layers(info, config_file, overrides or {})
    resolved = settle(info, layers.overlay(layers.flatten(info.defaults), given.layer), given.origins)
    for note in given.notes:
        words.logger.info(note)
    return resolved


def find_method(name: str) -> MethodInfo:
    """Return the method registered under a name or an alias; an underscore may stand for a hyphen."""
    load_packages()
    known = {alias: info for info in METHODS.values() for alias in info.aliases} | METHODS
    info = known.get(name) or known.get(name.replace("_", "-"))
    if info is None:
        close = words.did_you_mean(name, known) or f"; the methods are {', '.join(sorted(METHODS))}"
        raise errors.InputError(f"{words.named(name)} is not a method{close}")
    return info


def read_layers(info: MethodInfo, config_file: str | Path | None, overrides: Mapping[str, Any]) -> Given:
    """Read what the user gave, the file first, and translate TRL's names in both."""
    values, lines = _read_file(info, config_file) if config_file is not None else ({}, {})
    handled = {name for row in trl_names.rows_for(info) for name in row.names}
    try:
        translated = trl_names.translate({**values, **overrides}, info)
    except validation.SettingsError as refusal:
        raise _located(refusal.problems, lines) from None

    origins = dict(lines)
    lower = layers.flatten({name: value for name, value in values.items() if name not in handled})
    upper = layers.flatten({name: value for name, value in overrides.items() if name not in handled})
    for name, value in translated.settings.items():
        sources = translated.made_from[name]
        layer = upper if any(source in overrides for source in sources) else lower
        if name in layer and not validation.same(layer[name], value):
            raise errors.InputError(f"{' and '.join(sources)} and {name} are both given and differ; give one")
        layer[name] = value
        if name not in sources:
            place = next((lines[source] for source in sources if source in lines), "")
            origins[name] = f"{place} {', '.join(sources)}"
    try:
        lower = annotator_settings.expanded(lower)
    except errors.InputError as refusal:
        raise errors.InputError(f"{_origin(str(refusal).partition(' ')[0], origins)}{refusal}") from None
    upper = annotator_settings.expanded(upper)
    origins |= dict.fromkeys((name for name in upper if name not in translated.settings), "")
    origins |= {name: "" for name in ("annotator", "eval_by") if f"{name}.kind" in upper}
    notes = list(translated.notes)
    for name, (value, note) in translated.unless_given.items():
        if name not in lower and name not in upper:
            lower[name] = value
            notes.append(note)
    return Given(layers.overlay(lower, upper), origins, tuple(notes))


def settle(info: MethodInfo, layer: layers.Layer, origins: Mapping[str, str]) -> Resolved:
    nested = layers.nest(layer)
    of_method = {name: nested.pop(name) for name in list(nested) if name in info.settings.model_fields}
    of_run = {name: nested.pop(name) for name in list(nested) if name in RunSettings.model_fields}
    problems = [validation.SettingProblem(name, unknown(name, info)) for name in layers.flatten(nested) or nested]
    run_checks.refuse_source(info, of_run.get("source", "offline"))
    method_settings = _collect(info.settings, of_method, f"method {info.name}", problems)
    settings = _collect(RunSettings, of_run, "a run", problems)
    gives = of_run.get("source", "offline") != "offline" or of_run.get("data") or of_run.get("prompts")
    if settings is None and not gives and all(NO_DATA not in one.text for one in problems):
        problems.append(validation.SettingProblem("data", NO_DATA))
    if method_settings is None or settings is None or problems:
        raise _located(problems, origins)
    run_checks.refuse_misfit(info, method_settings, settings)
    if settings.learning_rate is None:
        raise errors.InputError(f"learning_rate is required, as method {info.name} has no default for it")
    reference = reference_of(method_settings)
    bare = settings.lora is None and not model_folder.is_adapter(settings.model)
    if reference.needs_adapter and bare:  # a model that is an adapter, the reference refuses
        refused = f"reference.kind {reference.kind} is refused without lora"
        raise errors.InputError(f"{refused}: there is no adapter to switch off; give lora.rank, or kind frozen")
    return Resolved(info, method_settings, settings)


def beyond_defaults(settings: Mapping[str, Any], info: MethodInfo) -> dict[str, Any]:
    """Return what a run's record holds beyond the defaults, so that `model_fields_set` is as at its start."""
    known = RunSettings.model_fields.items()
    defaults = {name: to_jsonable_python(one.default) for name, one in known if not one.is_required()}
    of_method = {name.partition(".")[0] for name in info.defaults}
    kept = {name for name in settings if name not in defaults or settings[name] != defaults[name]}
    return {name: value for name, value in settings.items() if name in kept | of_method}


def _read_file(info: MethodInfo, path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """A file's values, and where each stands. A run's own run.yaml is read as the settings it holds."""
    values, lines = layers.read_yaml(path)
    method = values.pop("method", None)
    if method is not None and (not isinstance(method, str) or find_method(method) is not info):
        raise errors.InputError(f"{path}: is for method {method}, not for {info.name}; run trueup train {method}")
    of_method, of_run = values.get("method_settings"), values.get("settings")
    if isinstance(of_method, dict) and isinstance(of_run, dict):
        values = {**of_method, **beyond_defaults(of_run, info)}
        lines = {name.partition(".")[2]: line for name, line in lines.items()}
    return values, {name: f"{path}:{line}" for name, line in lines.items()}


def _collect(
    model: type[validation.Model], values: dict[str, Any], where: str, found: list[validation.SettingProblem]
) -> validation.Model | None:
    try:
        return validation.validate(model, values, where=where)
    except validation.SettingsError as error:
        found += error.problems
        return None


def unknown(name: str, info: MethodInfo) -> str:
    if name.partition(".")[0] == "reference" and "reference" not in info.settings.model_fields:
        return f"{name} is refused: method {info.name} needs no reference; leave it out"
    known = [setting.path for setting in (*schema.settings_in(info.settings), *run_settings())]
    close = SHORT_NAMES.get(name) or name.replace("reward.", "annotator.", 1)  # `reward` is short for it
    near = words.did_you_mean(name, [*known, *trl_names.names_of_trl(info)])
    hint = f"; did you mean {close}?" if close in known else near
    return f"{words.named(name)} is not a setting of method {info.name} or of a run{hint}"


def run_settings() -> list[schema.Setting]:
    found = schema.settings_in(RunSettings)
    place = next(number for number, setting in enumerate(found) if setting.path == "annotator")
    about = f"An annotator that scores, by one name: {annotator_settings.REWARD_FORMS}."
    reward = replace(found[place], path="reward", description=about)
    return [*found[: place + 1], reward, *found[place + 1 :]]


def _located(problems: Iterable[validation.SettingProblem], origins: Mapping[str, str]) -> validation.SettingsError:
    told = ((found.path, f"{_origin(found.path, origins)}{found.text}") for found in problems)
    return validation.SettingsError(validation.SettingProblem(path, text) for path, text in told)


def _origin(path: str, origins: Mapping[str, str]) -> str:
    while path:
        if path in origins:
            return f"{origins[path].strip()}: " if origins[path] else ""
        path = path.rpartition(".")[0]
    return ""


def dump(resolved: Resolved) -> dict[str, Any]:
    return {
        "method": resolved.info.name,
        "method_settings": resolved.method_settings.model_dump(mode="json"),
        "settings": resolved.settings.model_dump(mode="json"),
    }


def told_settings(resolved: Resolved) -> dict[str, Any]:
    """Return what a model card tells of `dump`: settings that have a value and had a part in what came of the run."""
    settings, plain = resolved.settings, dump(resolved)
    vain = {
        one.path
        for one in schema.settings_in(RunSettings)
        if (one.role.affects == "nothing" and not one.role.held_out)
        or (one.role.sources and settings.source not in one.role.sources)
        or (one.role.gathers and not settings.gathers)
    }
    given = layers.flatten(plain["settings"]).items()
    told = {name: value for name, value in given if value not in (None, []) and name not in vain}
    return {**plain, "settings": layers.nest(told)}


def of_this_process(resolved: Resolved) -> list[str]:
    """What a run is made of that another process does not have: objects of Python, a method of a script."""
    names = list(filter(python_objects.is_of_process, python_objects.names_in(dump(resolved))))
    info = resolved.info
    return names + ([f"method {info.name}"] if package_of(info) == info.build.__module__ else [])


def going_on(resolved: Resolved, folder: Path) -> str:
    if of_this_process(resolved):
        return f"trueup.resume({str(folder)!r}) in this process"
    return f"trueup train {resolved.info.name} --resume {folder}"


def load_run(
    run: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    method_name: str | None = None,
    config_file: str | Path | None = None,
) -> Resolved:
    """Read the settings of the run in a folder; one given again that differs must be among `RESUME_MAY_CHANGE`."""
    values = read_run(run)
    path = Path(run) / RUN_FILE
    try:
        info = find_method(values["method"])
        of_run = beyond_defaults(values["settings"], info)
        layer = layers.flatten({**values["method_settings"], **of_run, "output": str(run)})
        began = settle(info, layer, {})
    except errors.InputError as error:
        raise errors.InputError(f"{path} is damaged, of another version, or of no method here: {error}") from None
    if method_name is not None and find_method(method_name) is not info:
        raise errors.InputError(f"{run} is a run of method {info.name}; resume it with trueup train {info.name}")

    given = read_layers(info, config_file, overrides or {})
    again = {name: one for name, one in given.layer.items() if not _same_model(one, layer.get(name))}
    output = again.get("output")
    if isinstance(output, str) and Path(output).resolve() == Path(run).resolve():
        del again["output"]
    resumed = settle(info, layers.overlay(layer, again), given.origins) if again else began
    before, after = dump(began), dump(resumed)
    parts = ("method_settings", "settings")
    changed = [name for part in parts for name in _changed(before[part], after[part])]
    if refused := [name for name in changed if name not in RESUME_MAY_CHANGE]:
        # Nothing of annotator and sampler where there are none.
        can = sorted(name for name in RESUME_MAY_CHANGE if began.settings.gathers or "." not in name)
        told = f"{', '.join(refused)} cannot change when a run is resumed, as the result could change"
        raise errors.InputError(f"{told}: leave it out, or start a new run (what can change: {', '.join(can)})")
    for note in given.notes:
        words.logger.info(note)
    return resumed


def read_record(run: str | Path) -> dict[str, Any]:
    return {key: value for key, value in read_run(run).items() if key not in KEYS}


def read_run(run: str | Path) -> dict[str, Any]:
    path = Path(run) / RUN_FILE
    if not path.is_file():
        give = "give the folder that was the output when it began"
        raise errors.InputError(f"{words.named(str(run))} is not a run, as it has no {RUN_FILE}; {give}")
    values, _ = layers.read_yaml(path)
    if missing := [key for key, kind in KEYS.items() if not isinstance(values.get(key), kind)]:
        raise errors.InputError(f"{path} is damaged: it has no {', '.join(missing)}")
    return values


def _same_model(value: object, began: object) -> bool:
    """Whether a model of the hub is given without a revision; the run keeps the commit that it began with."""
    if isinstance(value, list | tuple) and isinstance(began, list):
        both = list(zip(value, began, strict=False))
        same_each = all(one == other or _same_model(one, other) for one, other in both)
        return len(value) == len(began) and same_each
    name, at, commit = str(began).rpartition("@")
    held = bool(at and model_hub.COMMIT.fullmatch(commit))
    return held and str(value).removeprefix(model_hub.PREFIX) == name


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, one in before.items():
        other = after[name]
        if isinstance(one, dict) and isinstance(other, dict) and one.get("kind") == other.get("kind"):
            names += _changed(one, other, f"{prefix}{name}.")
        elif annotator_settings.decisive(one) != annotator_settings.decisive(other):
            names.append(f"{prefix}{name}")
    return names
