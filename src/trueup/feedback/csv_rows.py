"""The rows of a file of comma- or tab-separated values (CSV, TSV), as objects keyed by the header.

Such a file holds text only. What a column holds is decided once for all of it: see `kind_of`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from trueup.errors import InputError
from trueup.feedback.files import LoadedFile
from trueup.feedback.layouts.known import LAYOUTS
from trueup.feedback.lines import BadRow, Fault, Row, checked, decoded, parsed
from trueup.feedback.written_messages import python_value
from trueup.words import counted, listed, printable, shortened

SUFFIXES = (".csv", ".tsv")
DELIMITERS = (",", "\t", ";", "|")
LONGEST_FIELD = 2**31 - 1
SPEAKERS = {"role", "from"}
"""A message has one of these keys."""
QUOTES = 'write a double quote inside a quoted field as ""'
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
WORDS = {"true": True, "false": False}
TEXT = frozenset(key.lower() for layout in LAYOUTS for key in layout.text)
"""Columns, in lower case, that hold text in some layout, even if it looks like numbers: "4" is a response."""


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of a row as they stand in the file."""

    line: int
    """1-based: where the row begins."""
    last_line: int
    fields: tuple[str, ...]
    problem: str = ""
    """Why the row cannot be read; empty where it can."""


def is_csv(file: LoadedFile) -> bool:
    """Whether a file is CSV: its name says so, and its content is not JSON."""
    name = PurePath(file.path.lower().removesuffix(".gz"))
    return name.suffix in SUFFIXES and file.data.lstrip()[:1] not in (b"{", b"[")


def csv_rows(file: LoadedFile) -> Iterator[Row | BadRow]:
    """One row a record, with the number of the line it begins on; an empty field is a key that is not there.

    Raises:
        InputError: a column stands twice, a quote is never closed, or the header is not UTF-8.
    """
    # Bytes that are not UTF-8 are carried along, so that one bad line does not shift the quotes of those after it.
    lines = list(io.StringIO(file.data.decode("utf-8", "surrogateescape"), newline=""))
    found = records(lines, file.path)
    header = next(found, None)
    if header is None:
        return
    names = column_names(header, lines, file.path)
    rows = list(found)
    whole = [row.fields for row in rows if not row.problem and len(row.fields) == len(names)]
    columns: list[Sequence[str]] = list(zip(*whole, strict=True)) or [()] * len(names)
    kinds = [kind_of(name, column) for name, column in zip(names, columns, strict=True)]
    for record in rows:
        try:
            yield as_row(record, names, kinds, lines, file.path)
        except InputError as error:
            yield BadRow(record.line, error)


def records(lines: list[str], path: str) -> Iterator[Record]:
    """The records of a file, the header first; blank lines are none."""
    reader = csv.reader(lines, delimiter=delimiter_of(lines), strict=True)
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(line, reader.line_num, (), problem_of(error, f"{path}:{line}"))
            else:
                if any(field.strip() for field in fields) or len(fields) > 1:
                    yield Record(line, reader.line_num, tuple(fields))
    finally:
        csv.field_size_limit(before)


def problem_of(error: csv.Error, where: str) -> str:
    """What is wrong with a record, in our own words.

    Raises:
        InputError: a quote is never closed; what it has swallowed cannot be told from rows.
    """
    if "unexpected end" in str(error):
        raise InputError(
            f"{where}: a double quote that opens in this row is never closed; {QUOTES}"
        ) from None
    return (
        f"text follows a closing double quote; {QUOTES}"
        if "expected after" in str(error)
        else f"not CSV: {error}"
    )


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


def column_names(header: Record, lines: list[str], path: str) -> list[str]:
    """The names in the header; a column without a name, as an index has, is named by its place."""
    for line in range(header.line, header.last_line + 1):
        decoded(raw(lines[line - 1]), path, line)
    if header.problem:
        raise InputError(f"{path}:{header.line}: {header.problem}")
    names = [name.strip() or f"column {place}" for place, name in enumerate(header.fields, start=1)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"{path}:{header.line}: the column {shortened(repeated[0])} stands twice in the header; "
            "rename or leave out one of them"
        )
    return names


Kind = Callable[[str], tuple[object, list[str]]]
"""Turns a field into its value, and names keys that an object in it holds twice."""


def kind_of(name: str, column: Sequence[str]) -> Kind:
    """What the fields of a column are, by what more than half of those that are not empty look like.

    Numbers as JSON writes them and true or false are that; so are lists and objects in JSON. What does not look so
    among them stays text, to be refused in its own row. A column that has the name of a text, as `prompt` or
    `chosen`, holds text, or lists of messages.
    """
    given = [field for field in column if field]
    if name.lower() in TEXT:
        found = as_messages if most(given, as_messages) else as_text
    elif most(given, as_number):
        found = as_number
    else:
        found = as_nested if most(given, as_nested) else as_text
    return found


def most(given: Sequence[str], kind: Kind) -> bool:
    """Whether more than half of the fields are of a kind."""
    return 2 * sum(not isinstance(kind(field)[0], str) for field in given) > len(given)


def as_text(field: str) -> tuple[object, list[str]]:
    """A field as it is."""
    return field, []


def as_number(field: str) -> tuple[object, list[str]]:
    """A field as a number, true or false; as it is where it is none."""
    word = field.strip()
    if word.lower() in WORDS:
        return WORDS[word.lower()], []
    if not NUMBER.fullmatch(word):
        return field, []
    try:
        return json.loads(word), []
    except ValueError:  # too many digits
        return field, []


def as_nested(field: str) -> tuple[object, list[str]]:
    """A field as the list or object whose JSON it is, or which Python prints so; as it is where it is none."""
    text = field.strip()
    if text[:1] not in ("[", "{"):
        return field, []
    try:
        value, end, repeated = parsed(text, 0)
    except Fault:
        printed = python_value(text)
        return (field if printed is None else printed), []
    return (value, repeated) if end == len(text) else (field, [])


def as_messages(field: str) -> tuple[object, list[str]]:
    """A field as a list of messages, or as one; as it is where it is neither, be it another list."""
    value, repeated = as_nested(field)
    turns = [value] if isinstance(value, dict) else value
    if (
        isinstance(turns, list)
        and turns
        and all(isinstance(one, dict) and SPEAKERS & one.keys() for one in turns)
    ):
        return value, repeated
    return field, []


def as_row(record: Record, names: list[str], kinds: list[Kind], lines: list[str], path: str) -> Row:
    """The row that a record stands for."""
    for line in range(record.line, record.last_line + 1):
        decoded(raw(lines[line - 1]), path, line)
    where = f"{path}:{record.line}"
    if record.problem:
        raise InputError(f"{where}: {record.problem}")
    if len(record.fields) != len(names):
        raise InputError(
            f"{where}: the row has {counted(len(record.fields), 'field')}, the header {len(names)} "
            f"({listed(map(printable, names), 12)}); "
            "a field that holds the delimiter or a line break must stand in double quotes"
        )
    value: dict[str, object] = {}
    repeated: list[str] = []
    for name, kind, field in zip(names, kinds, record.fields, strict=True):
        if field:
            value[name], twice = kind(field)
            repeated += twice
    return replace(
        checked(value, repeated, record.line, path), empty=tuple(name for name in names if name not in value)
    )


def raw(line: str) -> bytes:
    """The bytes a line was read from."""
    return line.encode("utf-8", "surrogateescape")
