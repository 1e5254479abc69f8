"""The layouts trueup knows, and which of them a file has.

To add one: a call of a shape (`trueup.feedback.layouts.shapes`) in the table that it belongs to. Those of packages,
entry points of the group `trueup.layouts`, are tried first.
"""

from trueup import python_objects
from trueup.errors import InputError
from trueup.feedback import columns, fields, records
from trueup.feedback.layouts import frameworks, platforms, preference_sets, trl
from trueup.feedback.layouts.layout import Layout, RowValue, remedy
from trueup.words import listed, nearest, printable

DATA_SETS: tuple[Layout, ...] = (*preference_sets.LAYOUTS, *trl.BEAVERTAILS)
LAYOUTS: tuple[Layout, ...] = (
    *map(python_objects.loaded, python_objects.entries(python_objects.LAYOUTS).values()),
    *DATA_SETS,
    trl.ORCA,
    *trl.FIRST,
    *platforms.LAYOUTS,
    *frameworks.LAYOUTS,
    *trl.LAYOUTS,
    *frameworks.DOLLY,
    *trl.EXCHANGES,
)
"""In the order in which they are tried: those that ask for more of a row before those that a few of them look like."""

OTHER_NAMES = {
    "prompt": ("question", "instruction", "input", "context"),
    "completion": ("response", "output", "answer", "target", "text"),
    "chosen": ("preferred", "better", "winner", "accepted"),
    "rejected": ("dispreferred", "worse", "loser"),
    "messages": ("conversations", "conversation", "turns"),
}
"""Names that other formats give to our keys; refused, with the right one named."""


def recognise(row: RowValue, origin: records.Origin, empty: tuple[str, ...] = ()) -> Layout:
    """The layout of the file whose first row this is; `empty` are columns of CSV whose field is empty in it."""
    for layout in LAYOUTS:
        if layout.recognises(row):
            return layout
    if gap := empty_field(row, empty):
        raise fields.Field(row, origin, gap).fault(
            "the field is empty, and the layout is recognised from the first row; fill it in, or leave the row out"
        )
    candidates = (
        *trl.FIRST, *trl.LAYOUTS, *frameworks.DOLLY, *trl.EXCHANGES,
        *frameworks.LAYOUTS, *platforms.LAYOUTS, *DATA_SETS,
    )  # fmt: skip
    nearest = max(candidates, key=lambda layout: likeness(layout, row))
    own, help_with_it = columns.guessed(row), wrapped(row)
    strange = sum(key in row for key in nearest.keys) < min(2, len(nearest.keys))
    judged = " label=" in own or " score=" in own
    if not help_with_it:
        help_with_it = "" if own and strange else advice(nearest, row)
        help_with_it += f"; a table of your own is read with {own}" if own and (strange or judged) else ""
    if not help_with_it:
        known = dict.fromkeys(" + ".join(layout.keys) for layout in (*trl.FIRST, *trl.LAYOUTS))
        help_with_it = f"; known are {listed(map(printable, known), 8)}"
    raise InputError(
        f"{origin}: no known layout has the keys of this row ({listed(map(printable, row), 12)}){help_with_it}; "
        "docs/feedback.md lists the layouts"
    )


def empty_field(row: RowValue, empty: tuple[str, ...]) -> str | None:
    """The first column without which, being empty in this row, the row has no layout; None where that is not why."""
    for layout in LAYOUTS:
        gaps = [key for key in layout.keys if key not in row]
        if set(gaps) <= {*empty} and not {*layout.foreign} & {*row, *empty}:
            return next(iter(gaps), None)
    return None


def wrapped(row: RowValue) -> str:
    """What to do with a row that holds all the rows under one of its keys; nothing where it does not."""
    for key, value in row.items():
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict) and any(layout.recognises(first) for layout in LAYOUTS):
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
    if other := [name for name in row if name.lower() in OTHER_NAMES.get(key, ())]:
        return other[0], 0.95
    known = {name for layout in LAYOUTS for name in layout.keys}
    # A name that says the opposite of a key, such as `unchosen`, is near to it all the same.
    opposed = {f"{no}{gap}{key}" for no in columns.NEGATED for gap in ("", "_", "-", " ")}
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
