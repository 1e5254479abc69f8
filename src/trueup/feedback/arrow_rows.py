"""Rows of Arrow tables, which Parquet files and data sets of the hub are read as, as plain JSON values."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from trueup.errors import InputError
from trueup.feedback.lines import BadRow, Fault, Row, checked, parsed, skip_space
from trueup.words import one_line, shortened

if TYPE_CHECKING:
    import pyarrow

BATCH = 1000
"""Rows converted at a time."""
CONTENT = "content"
"""The one key of a nested object for which null says something: a turn that only calls a tool."""


def batch_rows(batches: Iterable[pyarrow.RecordBatch], path: str) -> Iterator[Row | BadRow]:
    """The rows of record batches or tables, numbered from 1.

    A null of a column is null, as in JSON. Within a column, where Arrow gives every object the same keys, a key that
    is null is one that was not there. Dates and times become ISO text; a value that JSON does not have, such as
    binary data, makes the row a bad one.

    Raises:
        InputError: two columns have one name.
    """
    number = 0
    for batch in batches:
        refuse_repeated(batch.schema.names, path)
        types = list(zip(batch.schema.names, batch.schema.types, strict=True))
        for values in row_values(batch):
            number += 1
            yield one_row(values, types, number, path)


def refuse_repeated(names: list[str], path: str) -> None:
    """Refuse a table in which two columns have one name."""
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"{path}: the column {shortened(repeated[0])} stands twice; rename or leave out one of them"
        )


def row_values(batch: Any) -> Iterator[dict[str, Any] | Exception]:
    """Each row of a batch as Python values, or why it cannot be."""
    try:
        yield from batch.to_pylist()
        return
    except unreadable():
        pass
    for index in range(batch.num_rows):
        try:
            (values,) = batch.slice(index, 1).to_pylist()
        except unreadable() as error:
            yield error
        else:
            yield values


def unreadable() -> tuple[type[Exception], ...]:
    """What Arrow raises for a damaged file and for values that Python cannot hold."""
    import pyarrow

    return (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError)


def one_row(
    values: dict[str, Any] | Exception, types: list[tuple[str, pyarrow.DataType]], number: int, path: str
) -> Row | BadRow:
    """The row, or what is wrong with it."""
    if isinstance(values, Exception):
        return BadRow(number, InputError(f"{path}:{number}: the row cannot be read: {library_words(values)}"))
    repeated: list[str] = []
    try:
        made = {name: plain(values[name], kind, repeated) for name, kind in types}
        return checked(made, repeated, number, path)
    except Fault as fault:
        problem = f"a column holds JSON that is not sound: {fault.problem}"
        return BadRow(number, InputError(f"{path}:{number}: {problem}"))
    except InputError as error:
        return BadRow(number, error)


def plain(value: Any, kind: pyarrow.DataType, repeated: list[str]) -> object:
    """A value of an Arrow type as JSON has it, where JSON can have it.

    Args:
        repeated: gets the keys that stand twice in a map or in text that holds JSON.

    Raises:
        Fault: a column of JSON holds text that is not JSON.
    """
    from pyarrow import types

    if value is None:
        return None
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain(value, kind.value_type, repeated)
    if types.is_struct(kind):
        inner = {field.name: plain(value[field.name], field.type, repeated) for field in kind}
        return {key: one for key, one in inner.items() if one is not None or key == CONTENT}
    if types.is_map(kind):
        pairs = [(str(key), plain(one, kind.item_type, repeated)) for key, one in value]
        repeated.extend(sorted({key for key, _ in pairs if [name for name, _ in pairs].count(key) > 1}))
        return dict(pairs)
    if getattr(kind, "extension_name", "") == "arrow.json":
        return from_json(value, repeated)
    if isinstance(value, list):
        inner_kind = getattr(kind, "value_type", None) or kind.storage_type.value_type
        return [plain(one, inner_kind, repeated) for one in value]
    return scalar(value)


def from_json(text: str, repeated: list[str]) -> object:
    """The value of a text that holds JSON."""
    value, end, twice = parsed(text, skip_space(text, 0))
    repeated.extend(twice)
    if skip_space(text, end) < len(text):
        raise Fault("more text after the end of the value", end)
    return value


def scalar(value: object) -> object:
    """A single value as JSON has it; what JSON does not have is left as it is."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return str(value) if isinstance(value, uuid.UUID) else value


def content_line(row: Row | BadRow) -> bytes:
    """What a row adds to the hash of its table: the same for the same content, however it is stored."""
    value = row.value if isinstance(row, Row) else str(row.number)
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def library_words(error: Exception, limit: int = 160) -> str:
    """What an error of a library says, on one line, cut after `limit` characters."""
    words = one_line(error)
    cut = words if len(words) <= limit else words[:limit] + "..."
    return cut if cut.isprintable() else ascii(cut)
