"""TRL's and transformers' names of settings, turned into ours; `trl_names` holds the table.

A name either becomes one of our settings, or has no effect here and that is said aloud, or is refused with
what to do instead. What a file leaves out takes our defaults, not TRL's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trueup.config.settings import RunSettings
from trueup.config.validation import Problem, Problems, shown
from trueup.errors import InputError
from trueup.methods.method import MethodInfo

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one or a few names given together: `Outcome({"batch_size": 32}, ("8 x 4",))`."""

    settings: Values = field(default_factory=dict)
    """Dotted setting -> value."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: names that are translated together, as they depend on each other."""

    names: tuple[str, ...]
    says: str
    """What becomes of them, for the documentation."""
    translate: Callable[[Values, MethodInfo], Outcome]
    """Values given under these names, none of them None, and the method -> what becomes of them.

    Raises InputError to refuse."""


@dataclass(frozen=True, slots=True)
class Translated:
    """Settings under our names.

    Example: `Translated({"epochs": 1}, {"epochs": ("num_train_epochs",)}, ("push_to_hub ...",))`.
    """

    settings: dict[str, Any]
    made_from: dict[str, tuple[str, ...]]
    """Dotted setting -> the names it was made from."""
    notes: tuple[str, ...]


def renamed(name: str, ours: str) -> Row:
    """A name with a counterpart of the same meaning."""
    return Row((name,), f"`{ours}`", lambda values, _: Outcome({ours: values[name]}))


def no_effect(reason: str, *names: str) -> list[Row]:
    """Names that change nothing here, and why."""

    def row(name: str) -> Row:
        note = f"{name} has no effect: {reason}"
        return Row((name,), f"no effect: {reason}", lambda values, _: Outcome(notes=(note,)))

    return [row(name) for name in names]


def refused(instead: str, *names: str, harmless: tuple[object, ...] = (False,)) -> list[Row]:
    """Names that would change the result in a way not offered; `harmless` values change nothing."""

    def row(name: str) -> Row:
        def translate(values: Values, _: MethodInfo) -> Outcome:
            if any(same(values[name], value) for value in harmless):
                return Outcome()
            raise InputError(f"{name} {shown(values[name])} is not offered: {instead}")

        allowed = ", ".join(f"`{shown(value).lower()}`" for value in harmless)
        says = f"refused{f' unless {allowed}' if allowed else ''}: {instead}"
        return Row((name,), says, translate)

    return [row(name) for name in names]


def same(one: object, other: object) -> bool:
    """Whether two plain values mean the same, text from the command line included: "1e-6" and 1e-06."""
    return one == other or _plain(one) == _plain(other)


def translate(values: Values, method: MethodInfo) -> Translated:
    """Translate the values that stand under TRL's names; a name that is also ours passes untouched.

    Raises:
        Problems: a name that is refused, or two that contradict each other.
    """
    given = {name: value for name, value in values.items() if value is not None}
    result = Translated({}, {}, ())
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
        for setting, value in outcome.settings.items():
            if setting in result.settings and not same(result.settings[setting], value):
                names = " and ".join((*result.made_from[setting], *chosen))
                refusals.append(Problem(setting, f"{names} contradict each other: each sets {setting}"))
            result.settings[setting] = value
            result.made_from[setting] = tuple(chosen)
    if refusals:
        raise Problems(refusals)
    return Translated(result.settings, result.made_from, tuple(notes))


def handled_names(method: MethodInfo) -> frozenset[str]:
    """Every name that `translate` reads for a method."""
    return frozenset(name for row in _rows(method) for name in row.names)


def trl_names() -> tuple[str, ...]:
    """Every name in the table that is not also a name of ours."""
    from trueup.config.trl_names import TABLE

    return tuple(name for row in TABLE for name in row.names if name not in RunSettings.model_fields)


def _rows(method: MethodInfo) -> list[Row]:
    """The table without names that the method itself has as settings."""
    from trueup.config.trl_names import TABLE

    return [row for row in TABLE if not set(row.names) & set(method.settings.model_fields)]


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
