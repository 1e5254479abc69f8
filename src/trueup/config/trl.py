"""TRL's and transformers' names of settings, turned into ours; `trl_names` holds the table.

A name either becomes one of our settings, or has no effect here and that is said aloud, or is refused with
what to do instead. What a file leaves out takes our defaults, not TRL's, unless it names the loss by TRL's
`loss_type` and that loss has another default there (`trl_rules.LOSS_DEFAULTS`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trueup.config.trl_names import TABLE
from trueup.config.trl_rows import Row, Values, same
from trueup.errors import InputError
from trueup.methods.method import MethodInfo
from trueup.settings.run_settings import RunSettings
from trueup.settings.validation import Problem, Problems


@dataclass(frozen=True, slots=True)
class Translated:
    """Settings under our names.

    Example: `Translated({"epochs": 1}, {"epochs": ("num_train_epochs",)}, ("push_to_hub ...",))`.
    """

    settings: dict[str, Any]
    made_from: dict[str, tuple[str, ...]]
    """Dotted setting -> the names it was made from."""
    notes: tuple[str, ...]
    unless_given: dict[str, tuple[Any, str]]
    """Dotted setting -> the value it takes if it is not given, and the note to make then."""


def translate(values: Values, method: MethodInfo) -> Translated:
    """Translate the values that stand under TRL's names; a name that is also ours passes untouched.

    Raises:
        Problems: a name that is refused, or two that contradict each other.
    """
    given = {name: value for name, value in values.items() if value is not None}
    result = Translated({}, {}, (), {})
    notes: list[str] = []
    refusals: list[Problem] = []
    for row in _rows(method):
        chosen = {name: given[name] for name in row.names if name in given}
        if not chosen:
            continue
        try:
            outcome = row.translate(chosen, method)
        except InputError as error:
            refusals.append(Problem(next(iter(chosen)), str(error)))
            continue
        notes += outcome.notes
        result.unless_given.update(outcome.unless_given)
        for setting, value in outcome.settings.items():
            if setting in result.settings and not same(result.settings[setting], value):
                names = " and ".join((*result.made_from[setting], *chosen))
                refusals.append(Problem(setting, f"{names} contradict each other: each sets {setting}"))
            result.settings[setting] = value
            result.made_from[setting] = tuple(chosen)
    if refusals:
        raise Problems(refusals)
    return Translated(result.settings, result.made_from, tuple(notes), result.unless_given)


def handled_names(method: MethodInfo) -> frozenset[str]:
    """Every name that `translate` reads for a method."""
    return frozenset(name for row in _rows(method) for name in row.names)


def trl_names() -> tuple[str, ...]:
    """Every name in the table that is not also a name of ours."""
    return tuple(name for row in TABLE for name in row.names if name not in RunSettings.model_fields)


def _rows(method: MethodInfo) -> list[Row]:
    """The table without names that the method itself has as settings."""
    return [row for row in TABLE if not set(row.names) & set(method.settings.model_fields)]
