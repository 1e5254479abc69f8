"""The layouts trueup knows (`known.toml`), and which of them a file has.

To add one: a row in that table, and what reads it, where that is new, in `data_sets` or `readers`. Those of packages,
entry points of the group `trueup.layouts`, are tried first.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from trueup import python_objects
from trueup.errors import InputError
from trueup.feedback import canonical, columns, fields, records
from trueup.feedback.layouts import data_sets, layout, readers, shapes
from trueup.feedback.layouts.layout import Layout, RowValue, remedy
from trueup.words import listed, nearest, printable

FORMS = layout.TABLE["forms"]
"""Name -> a form of `trueup.feedback.layouts.shapes`, and parameters of it that several rows have."""
OF_FORM = ("ask", "answer", "read", "text", "optional", "request", "further", "fits", "counted")
"""Parameters of forms; all others are of shapes."""
LISTS = {**vars(layout), "COMMON": shapes.COMMON, "OPTIONAL": canonical.OPTIONAL}
LISTS["OF_PROMPTS"] = canonical.PROMPT_KEYS[1:]
READERS = {**vars(layout), **vars(shapes), **vars(readers), **vars(data_sets)}
"""Name -> function that the table can name."""
CALLED = ("ask", "answer", "read", "fits", "choose", "said", "convert", "named")
"""Parameters that are functions, by name; or what a function makes of arguments."""
SENTENCES = ("meaning", "not_kept", "inside")


def value_of(name: str, given: Any) -> Any:
    if name in SENTENCES or isinstance(given, bool):
        return given
    if name not in CALLED:
        words = given.split() if isinstance(given, str) else given
        return tuple(one for word in words for one in (LISTS[word] if word.isupper() else (word,)))
    if isinstance(given, str):
        return READERS[given]
    return READERS[given[0]](*given[1:])


def layouts_of(row: dict[str, Any]) -> Iterator[Layout]:
    (shape, name), (form, keys), *more = row.items()
    given = {key: value_of(key, one) for key, one in more}
    if shape == "layout":
        yield Layout(name, value_of(form, keys), **given)
        return
    for base, options in FORMS.get(form, {}).items():
        form, given = base, {key: value_of(key, one) for key, one in options.items()} | given
    of_form = {key: given.pop(key) for key in OF_FORM if key in given}
    about = {key: given.pop(key) for key in ("not_kept", "inside") if key in given}
    made = READERS[shape](name, READERS[form](*value_of("keys", keys), **of_form), **given)
    yield from (replace(one, **about) for one in ([made] if isinstance(made, Layout) else made))


FAMILIES = {
    name: tuple(one for row in rows for one in layouts_of(row))
    for name, rows in layout.TABLE.items()
    if isinstance(rows, list)
}
LAYOUTS: tuple[Layout, ...] = (
    *map(python_objects.loaded, python_objects.entries(python_objects.LAYOUTS).values()),
    *(one for family in FAMILIES.values() for one in family),
)
LIKELY = ("general", "plain", "dolly", "exchanges", "frameworks", "platforms", "data_sets")
"""Families in the order in which a row of none may have been meant for one."""


def recognise(row: RowValue, origin: records.Origin, empty: tuple[str, ...] = ()) -> Layout:
    """The layout of the file whose first row this is; `empty` are columns of CSV whose field is empty in it."""
    for one in LAYOUTS:
        if one.recognises(row):
            return one
    if gap := empty_field(row, empty):
        raise fields.Field(row, origin, gap).fault(
            "the field is empty, and the layout is recognised from the first row; fill it in, or leave the row out"
        )
    candidates = [one for family in LIKELY for one in FAMILIES[family]]
    nearest = max(candidates, key=lambda one: likeness(one, row))
    own, help_with_it = columns.guessed(row), wrapped(row)
    strange = sum(key in row for key in nearest.keys) < min(2, len(nearest.keys))
    judged = " label=" in own or " score=" in own
    if not help_with_it:
        help_with_it = "" if own and strange else advice(nearest, row)
        help_with_it += f"; a table of your own is read with {own}" if own and (strange or judged) else ""
    if not help_with_it:
        known = dict.fromkeys(" + ".join(one.keys) for family in LIKELY[:2] for one in FAMILIES[family])
        help_with_it = f"; known are {listed(map(printable, known), 8)}"
    raise InputError(
        f"{origin}: no known layout has the keys of this row ({listed(map(printable, row), 12)}){help_with_it}; "
        "docs/feedback.md lists the layouts"
    )


def empty_field(row: RowValue, empty: tuple[str, ...]) -> str | None:
    """The first column without which, being empty in this row, the row has no layout; None where that is not why."""
    for one in LAYOUTS:
        gaps = [key for key in one.keys if key not in row]
        if set(gaps) <= {*empty} and not {*one.foreign} & {*row, *empty}:
            return next(iter(gaps), None)
    return None


def wrapped(row: RowValue) -> str:
    """What to do with a row that holds all the rows under one of its keys; nothing where it does not."""
    for key, value in row.items():
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict) and any(one.recognises(first) for one in LAYOUTS):
            remedy = "write that list alone, or one of its objects on each line"
            return f"; the rows are wrapped in {printable(key)!r}: {remedy}"
    return ""


def likeness(layout: Layout, row: RowValue) -> float:
    """How near the keys of a row come to those of a layout, from 0 to 1."""
    missing = {name: near for name, near in (meant_for(key, row) for key in layout.keys if key not in row)}
    near = (sum(key in row for key in layout.keys) + sum(missing.values())) / len(layout.keys)
    if near < 1 or layout.recognises(row):
        return near
    # Nearer than another name for a key where it has a key too many, farther where its values are of another kind.
    return 0.98 if any(key in row for key in layout.foreign) else 0.94


def meant_for(key: str, row: RowValue) -> tuple[str, float]:
    """The key of the row that was probably meant for `key`, and how near it is; empty where none is."""
    if other := [name for name in row if name.lower() in fields.NAMES["other_names"].get(key, ())]:
        return other[0], 0.95
    known = {name for one in LAYOUTS for name in one.keys}
    # A name that says the opposite of a key, such as `unchosen`, is near to it all the same.
    opposed = {f"{no}{gap}{key}" for no in fields.NAMES["negated"] for gap in ("", "_", "-", " ")}
    free = [name for name in row if name not in known and name.lower() not in opposed]
    near = nearest(key, free)
    return (near, 0.9) if near else ("", 0.0)


def advice(nearest: Layout, row: RowValue) -> str:
    """What to change to come to the nearest layout; nothing where none is near."""
    missing = {key: meant_for(key, row)[0] for key in nearest.keys if key not in row}
    missing = {key: name * ([*missing.values()].count(name) == 1) for key, name in missing.items()}
    typos = [f"{key!r} where it says {name!r}" for key, name in missing.items() if name]
    absent = [repr(key) for key, name in missing.items() if not name]
    if len(absent) == len(nearest.keys):
        return ""
    if not missing:
        excess = [key for key in nearest.foreign if key in row]
        without = f"would not have {' and '.join(map(repr, excess))}{''.join(map(remedy, excess))}"
        return f"; {nearest.name} {without if excess else 'has other values there'}"
    did_you = f"; nearest are {nearest.name}: did you mean {' and '.join(typos)}?" if typos else ""
    need = "would also need" if typos else "would need"
    return did_you + (f"; {nearest.name} {need} {' and '.join(absent)}" if absent else "")
