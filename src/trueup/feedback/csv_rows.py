"""The rows of a file of comma- or tab-separated values (CSV, TSV), as objects keyed by the header.

Such a file holds text only. What a column holds is decided once for all of it: see `kinds_of`.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice, tee

from trueup.errors import InputError
from trueup.feedback import json_rows, turns
from trueup.feedback.layouts.known import LAYOUTS
from trueup.words import counted, listed, printable, shortened

SUFFIXES = (".csv", ".tsv")
DELIMITERS = (",", "\t", ";", "|")
LONGEST_FIELD = 2**31 - 1
SPEAKERS = {"role", "from"}
QUOTES = 'write a double quote inside a quoted field as ""'
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
WORDS = {"true": True, "false": False}
TEXT = frozenset(key.lower() for layout in LAYOUTS for key in layout.text)
"""Columns, in lower case, that hold text in some layout, even if it looks like numbers: "4" is a response."""

Record = tuple[int, str, list[str] | str]
"""The line on which a row begins, its lines, and its fields or why they cannot be told apart."""
Kind = Callable[[str], object]


def is_csv(file: json_rows.LoadedFile) -> bool:
    named_so = file.path.lower().removesuffix(".gz").endswith(SUFFIXES)
    return named_so and not file.beginning().startswith((b"{", b"["))


def csv_rows(file: json_rows.LoadedFile, called: Mapping[str, str]) -> Iterator[json_rows.FileRow]:
    """One row a record, with the number of the line it begins on; an empty field is a key that is not there."""
    found = records(file)
    if not (header := next(found, None)):
        return
    names = column_names(header, file.path)
    kinds = kinds_of([called.get(name, name) for name in names], (fields for _, _, fields in found))
    found = records(file)
    next(found)
    for record in found:
        try:
            yield as_row(record, names, kinds, file.path)
        except InputError as error:
            yield json_rows.FileRow(record[0], error=str(error))


def records(file: json_rows.LoadedFile) -> Iterator[Record]:
    """The records of a file, the header first; blank lines are none. A quote that is never closed is fatal."""
    # Bytes that are not UTF-8 are carried along, so that one bad line does not shift the quotes of those after it.
    text = io.TextIOWrapper(file.rewound(), "utf-8", "surrogateescape", newline="")
    first: list[str] = []
    try:
        for line in text:
            first.append(line)
            if line.strip():
                break
        lines, taken = tee(chain(first, text))
        reader = csv.reader(lines, delimiter=delimiter_of(first), strict=True)
        while True:
            start = reader.line_num
            before = csv.field_size_limit(LONGEST_FIELD)
            try:
                fields: list[str] | str = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error):
                    what = "a double quote that opens in this row is never closed"
                    raise InputError(f"{file.path}:{start + 1}: {what}; {QUOTES}") from None
                after = "expected after" in str(error)
                fields = f"text follows a closing double quote; {QUOTES}" if after else f"not CSV: {error}"
            finally:
                csv.field_size_limit(before)
            record = "".join(islice(taken, reader.line_num - start))
            if len(fields) > 1 or any(field.strip() for field in fields):
                yield start + 1, record, fields
    finally:
        if not file.data.closed:
            text.detach()


def delimiter_of(lines: list[str]) -> str:
    """The delimiter that cuts the header into the most fields; the comma where none cuts it."""
    header = [line for line in lines if line.strip()][:1]

    def columns(delimiter: str) -> int:
        try:
            return max(len(fields) for fields in csv.reader(header, delimiter=delimiter, strict=True))
        except (csv.Error, ValueError):
            return 0

    best = max(DELIMITERS, key=columns)
    return best if columns(best) > 1 else DELIMITERS[0]


def column_names(header: Record, path: str) -> list[str]:
    """The names in the header; a column without a name, as an index has, is named by its place."""
    names = [name.strip() or f"column {place}" for place, name in enumerate(sound(header, path), start=1)]
    problem = json_rows.too_many_keys(len(names), "the header")
    if repeated := sorted(name for name, number in Counter(names).items() if number > 1):
        column = f"the column {shortened(repeated[0])}"
        problem = problem or f"{column} stands twice in the header; rename or leave out one of them"
    if problem:
        raise InputError(f"{path}:{header[0]}: {problem}")
    return names


def sound(record: Record, path: str) -> list[str]:
    """The fields of a record, which are UTF-8 and can be told apart."""
    line, text, fields = record
    json_rows.decoded(text.encode("utf-8", "surrogateescape"), path, line)
    if isinstance(fields, str):
        raise InputError(f"{path}:{line}: {fields}")
    return fields


def as_row(record: Record, names: list[str], kinds: list[Kind], path: str) -> json_rows.FileRow:
    line, fields = record[0], sound(record, path)
    if len(fields) != len(names):
        header = f"the header {len(names)} ({listed(map(printable, names), 12)})"
        raise InputError(
            f"{path}:{line}: the row has {counted(len(fields), 'field')}, {header}; "
            "a field that holds the delimiter or a line break must stand in double quotes"
        )
    given = zip(names, kinds, fields, strict=True)
    value = {name: kind(field) for name, kind, field in given if field}
    empty = tuple(name for name in names if name not in value)
    return json_rows.checked(value, line, path, empty)


def kinds_of(names: list[str], rows: Iterable[list[str] | str]) -> list[Kind]:
    """What the fields of each column are, by what more than half of those that are not empty look like.
    What does not look so stays text, to be refused in its own row. A column that has the name of a text, as `prompt`,
    holds text, or lists of messages."""
    texts: tuple[Kind, ...] = (as_turns,)
    kinds = [texts if name.lower() in TEXT else (as_number, as_nested) for name in names]
    given = [Counter[Kind]() for _ in names]
    for fields in rows:
        if isinstance(fields, list) and len(fields) == len(names):
            for field, could_be, column in zip(fields, kinds, given, strict=True):
                column.update([str] * bool(field))
                column.update(kind for kind in could_be if field and not isinstance(kind(field), str))
    return [
        next((kind for kind in could_be if 2 * column[kind] > column[str]), str)
        for could_be, column in zip(kinds, given, strict=True)
    ]


def as_number(field: str) -> object:
    word = field.strip()
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    try:
        return json.loads(word) if NUMBER.fullmatch(word) else field
    except ValueError:  # too many digits
        return field


def as_nested(field: str) -> object:
    """A field as the list or object whose JSON it is, or which Python prints so; as it is where it is none."""
    text = field.strip()
    if text[:1] not in ("[", "{"):
        return field
    try:
        return json_rows.parsed(text)
    except json.JSONDecodeError as error:
        printed = turns.python_value(text) if error.msg != "Extra data" else None
        return field if printed is None else printed


def as_turns(field: str) -> object:
    """A field as a list of messages, or as one; as it is where it is neither, be it another list."""
    value = as_nested(field)
    turns = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
    spoken = [isinstance(one, dict) and bool(SPEAKERS & one.keys()) for one in turns]
    return value if spoken and all(spoken) else field
