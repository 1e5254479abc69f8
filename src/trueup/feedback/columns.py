"""Tables of any columns: which of them holds what, and what the values of a label mean.

--columns prompt=request.text response=choices.0.text label=feedback --values thumbs_up=true thumbs_down=false
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from trueup import errors, words
from trueup.feedback import fields, json_rows
from trueup.feedback.layouts.layout import LABELS, SCORES

LABELLED = (*LABELS, "is_safe")


@dataclass(frozen=True, slots=True)
class Table:
    """How the columns of a user's tables are called here, and what their labels mean."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name -> that of the column."""
    values: Mapping[str, bool | float] = field(default_factory=dict)
    """Value of a label, in lower case -> what it means."""

    @property
    def called(self) -> Mapping[str, str]:
        return {theirs: ours for ours, theirs in self.columns.items()}

    def rows(self, rows: Iterator[json_rows.FileRow], path: str) -> Iterator[json_rows.FileRow]:
        checked = False
        for row in rows:
            if not (checked or row.error):
                self.check(row, path)
                checked = True
            yield self.row(row, path)

    def row(self, row: json_rows.FileRow, path: str) -> json_rows.FileRow:
        try:
            return row if row.error else self._translated(row, path)
        except errors.InputError as error:
            return json_rows.FileRow(row.number, error=str(error))

    def check(self, row: json_rows.FileRow, path: str) -> None:
        names = [*row.value, *row.empty]
        for ours, theirs in self.columns.items():
            if theirs not in names and within(row.value, theirs) is NOTHING:
                near = words.did_you_mean(theirs, names, quoted=True)
                named = f"the row has {words.listed(map(words.printable, names), 12)}{near}"
                where = f"{path}:{row.number}: columns"
                raise errors.InputError(f"{where}: {ours} is to be read from {theirs!r}, but {named}")

    def _translated(self, row: json_rows.FileRow, path: str) -> json_rows.FileRow:
        ours = self.called
        inside = {name: theirs for name, theirs in self.columns.items() if theirs not in row.value}
        opened = {*self.columns, *(theirs.partition(".")[0] for theirs in inside.values())} - {*ours}
        value: dict[str, object] = {}
        for name, one in row.value.items():
            value[f"{name} (the column of this name)" if name in opened else ours.get(name, name)] = one
        for name, theirs in inside.items():
            if (found := within(row.value, theirs)) is not NOTHING:
                value[name] = found
        if self.values:
            for key in (*LABELLED, *SCORES):
                if value.get(key) is not None:
                    value[key] = self._meant(key, value[key], f"{path}:{row.number}")
        return replace(row, value=value, empty=tuple(ours.get(name, name) for name in row.empty))

    def _meant(self, key: str, value: object, where: str) -> object:
        written = spelled(value)
        if written in self.values:
            meant = self.values[written]
            return float(meant) if key in SCORES else meant
        if isinstance(value, bool) or key in SCORES:
            return value
        known = f"values says nothing (it has {', '.join(self.values)})"
        raise errors.InputError(f"{where}: {key}: found {fields.described(value)}, of which {known}")


NOTHING = object()


def within(value: object, way: str) -> object:
    """What stands under keys and places in lists, `choices.0.text`; `NOTHING` where there is no such thing."""
    for step in way.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return NOTHING
    return value


def spelled(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (value if isinstance(value, str) else json.dumps(value)).strip().lower()


AS_IT_IS = Table()


class Described(Protocol):
    columns: tuple[str, ...]
    values: tuple[str, ...]


def table_of(settings: Described | None) -> Table:
    if settings is None:
        return AS_IT_IS
    names = dict(one.split("=", 1) for one in settings.columns)
    meanings = dict(one.rsplit("=", 1) for one in settings.values)
    return Table(names, {spelled(name): json.loads(meant.lower()) for name, meant in meanings.items()})
