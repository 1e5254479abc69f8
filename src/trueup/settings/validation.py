"""Typed settings from plain values; numbers and truth values may be text, as YAML ("5e-7") gives them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from trueup import errors, words
from trueup.settings.schema import Setting, settings_in

Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")

MAPPING = "a mapping of settings"
MUST_BE = {
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "finite_number": "a finite number",
    "int_parsing_size": "a whole number of usual size",
    "string_type": "text",
    "string_pattern_mismatch": "text without a null character",
    "string_too_short": "given and not empty",
    "too_short": "given at least once",
    "tuple_type": "a list",
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("int_parsing", "int_from_float", "int_type"), "a whole number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "dataclass_type"), MAPPING),
}
"""pydantic's error types -> what the value must be."""


class SettingProblem(NamedTuple):
    """A setting at fault, and a phrase that says so: `SettingProblem("beta", "beta must be ...")`."""

    path: str
    """Dotted; empty where several settings together are at fault."""
    text: str


class SettingsError(errors.InputError):
    """What is wrong with a set of settings, all of it; the message is one line."""

    def __init__(self, problems: Iterable[SettingProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.text for problem in self.problems))


def validate(model_type: type[Model], values: Mapping[str, Any], *, where: str) -> Model:
    """Return the typed settings; SettingsError names an unknown key with the nearest known one, or what fits."""
    try:
        model = model_type.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(_problems(error.errors(include_url=False), values, model_type, where)) from None
    if misplaced := list(_truth_values(values, model)):
        raise SettingsError(misplaced)
    return model


def convert(kind: type[T], name: str, value: object) -> T:
    """Return one value as `kind` (bool, int, float or str), or refuse it as `validate` would."""
    try:
        converted: T = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise errors.InputError(f"{name} must be {_must_be(error.errors()[0])}; got {words.as_given(value)}") from None
    return converted


def _problems(
    faults: Iterable[ErrorDetails], values: Mapping[str, Any], model_type: type[BaseModel], where: str
) -> list[SettingProblem]:
    known = settings_in(model_type)
    by_path: dict[str, list[ErrorDetails]] = {}
    for error in faults:
        by_path.setdefault(_path(error, values), []).append(error)
    return [SettingProblem(path, _text(path, group, known, where)) for path, group in by_path.items()]


def _path(error: ErrorDetails, values: object) -> str:
    """The dotted path as the user wrote it; pydantic's location also names members of unions."""
    parts = []
    node = values
    tag: object = None
    for part in error["loc"]:
        if tag is not None and part == tag:
            tag = None  # the kind, which may be called as one of its settings
        elif isinstance(node, Mapping) and part in node:
            parts.append(str(part))
            node = node[part]
            tag = node.get("kind") if isinstance(node, Mapping) else None
    if error["type"] == "missing":
        parts.append(str(error["loc"][-1]))
    return ".".join(parts)


def _text(path: str, faults: list[ErrorDetails], known: list[Setting], where: str) -> str:
    error = faults[0]
    given = error["input"]
    by_path = {setting.path: setting.choices for setting in known}
    kinds, choices = by_path.get(f"{path}.kind", ()), by_path.get(path, ())
    match error["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument" | "invalid_key":
            return _unknown(path, str(error["loc"][-2]) if len(error["loc"]) > 1 else "", known, where)
        case "missing":
            return f"{path} is required" + (f": one of {', '.join(choices)}" if choices else "")
        case "unfit":  # of `trueup.settings.schema`; what was given may be a secret
            return f"{path} {error['msg']}"
        case "value_error":
            return str(error["ctx"]["error"])
        case "union_tag_invalid":
            return f"{path}.kind must be {words.one_of(kinds, error['ctx']['tag'])}"
        case "union_tag_not_found":
            return _no_kind(path, given, kinds, known)
        case "model_attributes_type" | "dataclass_type" if len(kinds) > 1:
            kind = f"{path}.kind, one of {', '.join(kinds)}"
            return f"{path} must be {MAPPING} with {kind}; got {words.as_given(given)}"
        case "literal_error":
            allowed = choices or (error["ctx"]["expected"].strip("'"),)
            return f"{path} must be {words.one_of(allowed, given)}"
    must_be = " or ".join(dict.fromkeys(_must_be(error) for error in faults))
    return f"{path} must be {must_be}; got {words.as_given(given)}"


def _must_be(error: ErrorDetails) -> str:
    template = MUST_BE.get(error["type"])
    return template.format(**error.get("ctx", {})) if template else f"valid ({error['msg']})"


def _unknown(path: str, kind: str, known: list[Setting], where: str) -> str:
    if owners := next((setting.owners for setting in known if setting.path == path), ""):
        return f"{path} is a setting of {owners}, not of {kind}"
    close = words.did_you_mean(path, [setting.path for setting in known])
    return f"{words.named(path)} is not a setting of {where}{close}"


def _no_kind(path: str, given: object, kinds: Sequence[str], known: list[Setting]) -> str:
    text = f"{path}.kind is missing: it must be one of {', '.join(kinds)}"
    owners = {setting.path: ", ".join(setting.variants) for setting in known if setting.variants}
    for name in given if isinstance(given, Mapping) else ():
        if owner := owners.get(f"{path}.{name}"):
            return f"{text} ({path}.{name} is a setting of {owner})"
    return text


def _truth_values(values: Mapping[str, Any], model: object, prefix: str = "") -> Iterable[SettingProblem]:
    """True and false given for a number: pydantic would read them as 1 and 0."""
    for name, given in values.items():
        made = getattr(model, name)
        if isinstance(made, tuple):
            continue
        if isinstance(given, Mapping):
            yield from _truth_values(given, made, f"{prefix}{name}.")
        elif isinstance(given, bool) and isinstance(made, int | float) and not isinstance(made, bool):
            path = f"{prefix}{name}"
            yield SettingProblem(path, f"{path} must be a number; got {str(given).lower()}")


def same(one: object, other: object) -> bool:
    """Whether two plain values mean the same, text from the command line included: "1e-6" and 1e-06."""
    return one == other or _plain(one) == _plain(other)


def _plain(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 1:
        return _plain(value[0])
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    try:
        return float(word)
    except ValueError:
        return value
