"""The layouts trueup knows (`known.toml`), and which of them a file has.

To add one: a row in that table, and what reads it, where that is new, in `data_sets` or `readers`. Those of packages,
entry points of the group `trueup.layouts`, are tried first.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from trueup import errors, python_objects, words
from trueup.feedback import canonical, fields, records
from trueup.feedback.layouts import data_sets, layout, readers, shapes
from trueup.feedback.layouts.layout import Layout, RowValue, remedy

FORMS = layout.TABLE["forms"]
"""Name -> a form of `trueup.feedback.layouts.shapes`, and parameters of it that several rows have."""
OF_FORM = ("ask", "answer", "read", "text", "optional", "request", "further", "fits", "counted")
LISTS = {**vars(layout), "COMMON": shapes.COMMON, "OPTIONAL": canonical.OPTIONAL}
LISTS["OF_PROMPTS"] = canonical.PROMPT_KEYS[1:]
READERS = {**vars(layout), **vars(shapes), **vars(readers), **vars(data_sets)}
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
    for one in LAYOUTS if empty else ():
        gaps = [key for key in one.keys if key not in row]
        if {*gaps} <= {*empty} and not {*one.foreign} & {*row, *empty}:
            told = "the field is empty, and the first row tells the layout; fill it in, or leave the row out"
            raise fields.Field(row, origin, gaps[0]).fault(told)
    keys = words.listed(map(words.printable, row), 12)
    none = f"{origin}: no known layout has the keys of this row ({keys})"
    raise errors.InputError(f"{none}{advice(row)}; docs/feedback.md lists the layouts")


def advice(row: RowValue) -> str:
    """What to do with a row of no layout: what the nearest one would need, or where the rows are."""
    for key, value in row.items():
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict) and any(one.recognises(first) for one in LAYOUTS):
            instead = "write that list alone, or one of its objects on each line"
            return f"; the rows are wrapped in {words.printable(key)!r}: {instead}"
    candidates = [one for family in LIKELY for one in FAMILIES[family]]
    nearest = max(candidates, key=lambda one: likeness(one, row))
    excess = [key for key in nearest.foreign if key in row]
    told = []
    for key, name in lacking(nearest, row).items():
        told.append(f"did you mean {key!r} where it says {name!r}?" if name else f"they would also have {key!r}")
    told += [f"they would not have {key!r}{remedy(key)}" for key in excess]
    if likeness(nearest, row) < 0.5:
        known = dict.fromkeys(" + ".join(one.keys) for one in candidates)
        names = words.listed(map(words.printable, known), 8)
        return f"; known are {names}; --columns says what those of a table of your own are"
    own = "; or say by --columns what these are"
    return f"; nearest are {nearest.name}: {'; '.join(told) or 'they have other values there'}{own}"


def likeness(one: Layout, row: RowValue) -> float:
    return 1 - sum(0.6 if name else 1.0 for name in lacking(one, row).values()) / len(one.keys)


def lacking(one: Layout, row: RowValue) -> dict[str, str]:
    """Key of a layout that a row lacks -> the one that was probably meant for it, or nothing."""
    free = [name for name in row if name not in one.keys]
    absent = [key for key in one.keys if key not in row]
    # A name that ends with a key, such as `unchosen`, says something else.
    return {key: words.nearest(key, (name for name in free if not name.endswith(key))) or "" for key in absent}
