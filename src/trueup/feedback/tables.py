"""The rows of Arrow tables as plain JSON values: of Parquet files, and of what the library `datasets` reads.

The packages are imported when a source that needs them is met.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueup.errors import InputError
from trueup.feedback import json_rows
from trueup.words import listed, one_line, printable, shortened

if TYPE_CHECKING:
    import pyarrow

PARQUET = b"PAR1"
"""How a Parquet file begins and ends."""
BATCH = 1000
"""Rows converted at a time."""
NESTED_BATCH = 100
"""Rows of a Parquet file read at a time where texts stand inside of lists or objects."""
BATCH_SIZE = 2**26
"""Bytes of text converted at a time, if that is more than one row."""
CONTENT = "content"
"""The one key of a nested object for which null says something: a turn that only calls a tool."""


def need(package: str, name: str) -> None:
    """Make sure that a package is installed before it is imported.

    Args:
        package: as it is imported and installed, `pyarrow`.
        name: the source of feedback that needs it, for the message.

    Raises:
        InputError: it is not installed; with the command that installs it.
    """
    try:
        found = find_spec(package) is not None
    except ValueError:  # a test or a tool has put None or a stub in its place
        found = False
    if not found:
        raise InputError(
            f"{name}: reading this needs the package {package}, which is not installed; "
            "pip install 'trueup[data]'"
        )


def parquet_rows(file: json_rows.LoadedFile) -> Iterator[json_rows.FileRow]:
    """The rows of a Parquet file, numbered from 1; nested lists and structs are JSON lists and objects.

    Raises:
        InputError: pyarrow is not installed, the file is torn or damaged, or two columns have one name.
    """
    need("pyarrow", file.path)
    yield from batch_rows(parquet_batches(file), file.path)


def parquet_batches(file: json_rows.LoadedFile) -> Iterator[pyarrow.RecordBatch]:
    """The record batches of a Parquet file."""
    from pyarrow.parquet import ParquetFile

    source = file.data
    source.seek(-len(PARQUET), os.SEEK_END)
    if source.read() != PARQUET:
        raise InputError(f"{file.path}: the Parquet file is cut short: copy or download it again")
    left = json_rows.unpacked_limit(file.size)
    try:
        # A file says how large its pages are, but not how often they name a text that its dictionary holds once.
        metadata = ParquetFile(source).metadata
        if declared_size(metadata) > left:
            raise json_rows.unpacks_to_too_much(file.path, file.size)
        texts = [column for column in leaves(metadata) if column.logical_type.type == "STRING"]
        # Arrow cannot keep the dictionary of a text inside of lists; of these fewer are read at a time.
        flat = [column.path for column in texts if "." not in column.path]
        opened = ParquetFile(source, page_checksum_verification=True, read_dictionary=flat, pre_buffer=False)
        number = BATCH if len(flat) == len(texts) else NESTED_BATCH
        for batch in opened.iter_batches(batch_size=number, use_threads=False):
            taken = sum(map(text_size, batch.columns))
            left -= taken
            if left < 0:
                raise json_rows.unpacks_to_too_much(file.path, file.size)
            rows = max(1, batch.num_rows * BATCH_SIZE // max(taken, BATCH_SIZE))
            yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))
    except unreadable() as error:
        raise InputError(
            f"{file.path}: the Parquet file is damaged ({library_words(error)}); copy or download it again"
        ) from None


def leaves(metadata: pyarrow.parquet.FileMetaData) -> list[pyarrow.parquet.ColumnSchema]:
    """The columns of a Parquet file that hold values, those inside others too."""
    return [metadata.schema.column(place) for place in range(metadata.num_columns)]


def declared_size(metadata: pyarrow.parquet.FileMetaData) -> int:
    """The least bytes that the columns of a Parquet file take once unpacked, a byte a value."""
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    columns = [group.column(place) for group in groups for place in range(group.num_columns)]
    return sum(max(column.total_uncompressed_size, column.num_values) for column in columns)


def text_size(values: pyarrow.Array) -> int:
    """Bytes of the texts in an array, each counted as often as it stands there."""
    from pyarrow import compute, types

    if types.is_dictionary(values.type):
        sizes = compute.binary_length(values.dictionary).take(values.indices)
        return compute.sum(sizes).as_py() or 0
    if types.is_struct(values.type):
        return sum(map(text_size, values.flatten()))
    return text_size(values.flatten()) if types.is_list(values.type) else values.nbytes


def is_saved(path: Path) -> bool:
    """Whether a folder holds a data set, or several by name, as `save_to_disk` of `datasets` writes them."""
    several = path / "dataset_dict.json"
    return several.is_file() or all((path / name).is_file() for name in ("state.json", "dataset_info.json"))


def refuse_several(path: Path) -> None:
    """Refuse a folder with several data sets: which one to read is the user's choice."""
    if (path / "dataset_dict.json").is_file():
        parts = sorted(part.name for part in path.iterdir() if is_saved(part))
        example = f", as in {path / parts[0]}" if parts else ""
        raise InputError(f"{path}: this folder holds the splits {listed(parts)}; name one of them{example}")


def saved_rows(path: Path) -> Iterator[json_rows.FileRow]:
    """The rows of a data set in a folder, numbered from 1.

    Raises:
        InputError: `datasets` is not installed, the folder holds several data sets, or it is damaged.
    """
    refuse_several(path)
    need("datasets", str(path))
    import datasets

    try:
        if not json.loads((path / "state.json").read_bytes())["_data_files"]:
            return  # no rows, and so no files, which the library cannot read back
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # the library raises of its own, of Arrow and of the system
        raise InputError(
            f"{path}: the data set in this folder is damaged ({type(error).__name__}: {library_words(error)}); "
            "save or copy it again"
        ) from None
    yield from batch_rows(found.with_format("arrow").iter(BATCH), str(path))


def batch_rows(batches: Iterable[pyarrow.RecordBatch], path: str) -> Iterator[json_rows.FileRow]:
    """The rows of record batches or tables, numbered from 1.

    A null of a column is null, as in JSON. Within a column, where Arrow gives every object the same keys, a key that
    is null is one that was not there. Dates and times become ISO text; a value that JSON does not have, such as
    binary data, makes the row a bad one.

    Raises:
        InputError: two columns have one name.
    """
    number = 0
    for batch in batches:
        names = batch.schema.names
        if problem := json_rows.too_many_keys(len(names), "the table"):
            raise InputError(f"{path}: {problem}")
        if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
            raise InputError(
                f"{path}: the column {shortened(repeated[0])} stands twice; rename or leave out one of them"
            )
        types = dict(zip(names, batch.schema.types, strict=True))
        for values in row_values(batch):
            number += 1
            yield one_row(values, types, number, path)


def row_values(batch: Any) -> list[dict[str, Any] | Exception]:
    """Each row of a batch as Python values, or why it cannot be."""
    try:
        return list(batch.to_pylist())
    except unreadable() as error:
        if batch.num_rows == 1:
            return [error]
        return [one for index in range(batch.num_rows) for one in row_values(batch.slice(index, 1))]


def unreadable() -> tuple[type[Exception], ...]:
    """What Arrow raises for a damaged file and for values that Python cannot hold."""
    import pyarrow

    return (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError)


def one_row(
    values: dict[str, Any] | Exception, types: dict[str, pyarrow.DataType], number: int, path: str
) -> json_rows.FileRow:
    """The row, or what is wrong with it."""
    if isinstance(values, Exception):
        return json_rows.FileRow(
            number, error=f"{path}:{number}: the row cannot be read: {library_words(values)}"
        )
    try:
        return json_rows.checked(
            {name: plain(values[name], kind) for name, kind in types.items()}, number, path
        )
    except json.JSONDecodeError as error:
        problem = f"a column holds JSON that is not sound: {json_rows.what_is_wrong(error, 'value')}"
        return json_rows.FileRow(number, error=f"{path}:{number}: {problem}")


def plain(value: Any, kind: pyarrow.DataType) -> object:
    """A value of an Arrow type as JSON has it; what JSON does not have is left as it is.

    Raises:
        json.JSONDecodeError: a column of JSON holds text that is not JSON.
    """
    from pyarrow import types

    if value is None:
        return None
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain(value, kind.value_type)
    if types.is_struct(kind):
        inner = {field.name: plain(value[field.name], field.type) for field in kind}
        return {key: one for key, one in inner.items() if one is not None or key == CONTENT}
    if types.is_map(kind):
        return json_rows.with_repeated([(str(key), plain(one, kind.item_type)) for key, one in value])
    if getattr(kind, "extension_name", "") == "arrow.json":
        return json_rows.parsed(value)
    if isinstance(value, list):
        inner_kind = getattr(kind, "value_type", None) or kind.storage_type.value_type
        return [plain(one, inner_kind) for one in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return str(value) if isinstance(value, uuid.UUID) else value


def content_line(row: json_rows.FileRow) -> bytes:
    """What a row adds to the hash of its table: the same for the same content, however it is stored."""
    return json.dumps(str(row.number) if row.error else row.value, sort_keys=True).encode() + b"\n"


def library_words(error: Exception) -> str:
    """What an error of a library says, on one line."""
    return printable(one_line(error), 160)
