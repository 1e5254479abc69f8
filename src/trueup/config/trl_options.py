"""TRL's and transformers' names of settings, turned into ours by the table in `trueup.config.trl_rules`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trueup.config.layers import same
from trueup.config.trl_rows import NAMES, Row, Translated
from trueup.config.trl_rules import TABLE
from trueup.errors import InputError
from trueup.methods.method import MethodInfo
from trueup.settings.run_settings import RunSettings
from trueup.settings.validation import SettingProblem, SettingsError


def translate(values: Mapping[str, Any], method: MethodInfo) -> Translated:
    """Translate the values that stand under TRL's names; a name that is also ours passes untouched.

    Raises:
        SettingsError: a name that is refused, or two that contradict each other.
    """
    given = {name: value for name, value in values.items() if value is not None}
    result = Translated()
    notes: list[str] = []
    refusals: list[SettingProblem] = []
    for row in _rows(method):
        chosen = {name: given[name] for name in row.names if name in given}
        if not chosen:
            continue
        try:
            outcome = row.rule(chosen, method)
        except InputError as error:
            refusals.append(SettingProblem(next(iter(chosen)), str(error)))
            continue
        notes += outcome.notes
        result.unless_given.update(outcome.unless_given)
        for setting, value in outcome.settings.items():
            if setting in result.settings and not same(result.settings[setting], value):
                names = " and ".join((*result.made_from[setting], *chosen))
                refusals.append(
                    SettingProblem(setting, f"{names} contradict each other: each sets {setting}")
                )
            result.settings[setting] = value
            result.made_from[setting] = tuple(chosen)
    if refusals:
        raise SettingsError(refusals)
    return replace(result, notes=tuple(notes))


def handled_names(method: MethodInfo) -> frozenset[str]:
    """Every name that `translate` reads for a method."""
    return frozenset(name for row in _rows(method) for name in row.names)


def names_of_trl(method: MethodInfo | None = None) -> tuple[str, ...]:
    """Every name in the table that is not also a name of ours; or those alone that a method makes something of."""
    names = [name for row in TABLE if method is None or row.becomes for name in row.names]
    own = set() if method is None else NAMES["of_method"].keys() - method.settings.model_fields.keys()
    lacking = {name for ours in own for name in NAMES["of_method"][ours].split()}
    return tuple(name for name in names if name not in RunSettings.model_fields and name not in lacking)


def _rows(method: MethodInfo) -> list[Row]:
    """The table without names that the method itself has as settings."""
    return [row for row in TABLE if not set(row.names) & set(method.settings.model_fields)]
