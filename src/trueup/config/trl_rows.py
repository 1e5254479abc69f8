"""Rows of the table of TRL's names that need no rule of their own: `trl_names.toml`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trueup.errors import InputError
from trueup.files import table_beside
from trueup.methods.method import MethodInfo
from trueup.settings.validation import convert, same
from trueup.words import as_given, one_of

NAMES = table_beside(__file__, "trl_names.toml")

Values = dict[str, Any]
"""Values under the names of one row, none of them None."""


@dataclass(frozen=True, slots=True)
class Translated:
    """What became of names: `Translated({"epochs": 1}, (), {}, {"epochs": ("num_train_epochs",)})`."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Dotted setting -> value."""
    notes: tuple[str, ...] = ()
    unless_given: dict[str, tuple[Any, str]] = field(default_factory=dict)
    """Dotted setting -> a default of TRL's that differs from ours, and the note to make where it is taken."""
    made_from: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Dotted setting -> the names it was made from; filled in for all names together."""


Rule = Callable[[Values, MethodInfo], Translated]
"""Raises InputError to refuse."""


@dataclass(frozen=True, slots=True)
class Row:
    """Names that are translated together, as they depend on each other."""

    names: tuple[str, ...]
    says: str
    """What becomes of them, for the documentation."""
    rule: Rule
    becomes: bool = True
    """Whether a setting of ours can come of it."""


def term(ours: str, given: Values, method: MethodInfo) -> Translated:
    ((name, value),) = given.items()
    if ours in method.settings.model_fields:
        return Translated({ours: value})
    if same(value, False) or same(value, 0):
        return Translated()
    raise InputError(f"{name} is refused: method {method.name} has no such term; leave it out")


def _unless(harmless: list[object], instead: str, given: Values, method: MethodInfo) -> Translated:
    ((name, value),) = given.items()
    if any(same(value, one) for one in harmless):
        return Translated()
    raise InputError(f"{name} {as_given(value)} is not offered: {instead}")


Mapped = tuple[str, Mapping[str, object], list[object], str]


def _mapped(row: Mapped, given: Values, method: MethodInfo) -> Translated:
    ((name, value),) = given.items()
    ours, values, harmless, instead = row
    if ours not in method.settings.model_fields:
        return _unless(harmless, instead, given, method)
    if (key := str(value).lower()) not in values:
        raise InputError(f"{name} must be {one_of(tuple(values), value)}")
    return Translated({ours: values[key]})


def _switched(ours: Mapping[str, object], given: Values, method: MethodInfo) -> Translated:
    return Translated(dict(ours) if any(flag(given, name) for name in given) else {})


def plain_rows() -> Iterator[Row]:
    simple: dict[str, tuple[str, Callable[[str, Values, MethodInfo], Translated]]] = {
        "renamed": ("`{}`", lambda ours, given, _: Translated(dict.fromkeys([ours], *given.values()))),
        "of_method": ("`{}` of methods that have it", term),
        "no_effect": (
            "no effect: {}",
            lambda reason, given, _: Translated(notes=(f"{next(iter(given))} has no effect: {reason}",)),
        ),
    }
    for kind, (says, rule) in simple.items():
        for key, names in NAMES[kind].items():
            for name in names.split():
                yield Row((name,), says.format(key), partial(rule, key), kind != "no_effect")
    for names, instead, *rest in NAMES["refused"]:
        harmless = rest[0] if rest else []
        allowed = ", ".join(f"`{as_given(value).lower()}`" for value in harmless)
        says = f"refused{f' unless {allowed}' if allowed else ''}: {instead}"
        for name in names.split():
            yield Row((name,), says, partial(_unless, harmless, instead), becomes=False)
    for name, *row in NAMES["mapped"]:
        ours, values, harmless, instead = row
        told = ", ".join(f"{value} of {theirs}" for theirs, value in values.items()).lower()
        unless = f"of others refused unless `{harmless[0]}`: {instead}"
        yield Row((name,), f"`{ours}` of methods that have it: {told}; {unless}", partial(_mapped, row))
    for names, values in NAMES["switches"].items():
        ((ours, value),) = values.items()
        yield Row(tuple(names.split()), f"`{ours}`: {value} if true", partial(_switched, values))
    for ours, names in NAMES["cadences"].items():
        yield Row(tuple(names.split()), f"`{ours}`, if in steps", partial(_cadence, ours, names.split()[-1]))


def _cadence(ours: str, steps: str, given: Values, method: MethodInfo) -> Translated:
    """`no`, `epoch` or `steps`, and the number of steps."""
    what = steps.removesuffix("_steps")
    strategy = next((value for name, value in given.items() if name != steps), "steps")
    if strategy not in ("no", "steps", "epoch"):
        raise InputError(f"{what}_strategy must be {one_of(('no', 'steps', 'epoch'), strategy)}")
    if strategy == "steps":
        return Translated({ours: given[steps]} if steps in given else {})
    note = f"{what}_strategy {strategy} has no effect: give {ours}, a number of steps"
    return Translated(notes=(note,) if strategy == "epoch" or what == "logging" else ())


def flag(given: Values, name: str) -> bool | None:
    return convert(bool, name, given[name]) if name in given else None
