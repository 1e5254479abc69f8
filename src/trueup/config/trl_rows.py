"""Rows of the table of TRL's and transformers' names, and the common kinds of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trueup.errors import InputError
from trueup.methods.method import MethodInfo
from trueup.settings.validation import shown

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one or a few names given together: `Outcome({"batch_size": 32}, ("8 x 4",))`."""

    settings: Values = field(default_factory=dict)
    """Dotted setting -> value."""
    notes: tuple[str, ...] = ()
    unless_given: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """Dotted setting -> a default of TRL's that differs from ours, and the note to make where it is taken."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: names that are translated together, as they depend on each other."""

    names: tuple[str, ...]
    says: str
    """What becomes of them, for the documentation."""
    translate: Callable[[Values, MethodInfo], Outcome]
    """Values given under these names, none of them None, and the method -> what becomes of them.

    Raises InputError to refuse."""


def renamed(name: str, ours: str) -> Row:
    """A name with a counterpart of the same meaning."""
    return Row((name,), f"`{ours}`", lambda values, _: Outcome({ours: values[name]}))


def of_method(name: str, ours: str) -> Row:
    """A name with a counterpart in some methods; where a method has none, only what switches it off is taken."""

    def translate(values: Values, method: MethodInfo) -> Outcome:
        if ours in method.settings.model_fields:
            return Outcome({ours: values[name]})
        if any(same(values[name], value) for value in (False, 0)):
            return Outcome()
        raise InputError(f"{name} is refused: method {method.name} has no such term; leave it out")

    return Row((name,), f"`{ours}` of methods that have it", translate)


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
