"""The rows of CSV and TSV; what looks like a number or JSON is one, but in columns of text."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain

from trueup import errors, words
from trueup.feedback import json_rows, turns
from trueup.feedback.layouts.known import LAYOUTS

SUFFIXES = (".csv", ".tsv")
DELIMITERS = (",", "\t", ";", "|")
LONGEST_FIELD = 2**31 - 1
SPEAKERS = {"role", "from"}
QUOTES = 'write a double quote inside a quoted field as ""'
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
WORDS = {"true": True, "false": False}
TEXT = frozenset(key.lower() for layout in LAYOUTS for key in layout.text)


def is_csv(file: json_rows.LoadedFile) -> bool:
    named_so = file.path.lower().removesuffix(".gz").endswith(SUFFIXES)
    return named_so and not file.beginning().startswith((b"{", b"["))


def csv_rows(file: json_rows.LoadedFile, called: Mapping[str, str]) -> Iterator[json_rows.FileRow]:
    """One row a record, with the number of the line it begins on; an empty field is a key that is not there."""
    names: list[str] = []
    for line, fields in records(file):
        if not names:
            names = column_names(fields, line, file.path)
            texts = [called.get(name, name).lower() in TEXT for name in names]
        elif isinstance(fields, str):
            yield json_rows.FileRow(line, error=f"{file.path}:{line}: {fields}")
        elif len(fields) != len(names):
            header = f"the header {len(names)} ({words.listed(map(words.printable, names), 12)})"
            many = f"the row has {words.counted(len(fields), 'field')}, {header}"
            told = f"{many}; a field that holds the delimiter or a line break must stand in double quotes"
            yield json_rows.FileRow(line, error=f"{file.path}:{line}: {told}")
        else:
            given = zip(names, texts, fields, strict=True)
            value = {name: value_of(field, text=text) for name, text, field in given if field}
            yield json_rows.checked(value, line, file.path, tuple(name for name in names if name not in value))


def records(file: json_rows.LoadedFile) -> Iterator[tuple[int, list[str] | str]]:
    """The line on which each record begins, the header's first, and its fields, or why they cannot be told apart."""
    text = io.TextIOWrapper(file.rewound(), "utf-8", newline="")
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        head: list[str] = []
        while not head or (head[-1] and not head[-1].strip()):
            head.append(text.readline())
        delimiter = max(DELIMITERS, key=lambda one: len(next(csv.reader(head[-1:], delimiter=one), "")))
        reader = csv.reader(chain(head, text), delimiter=delimiter, strict=True)
        while True:
            start = reader.line_num + 1
            try:
                fields: list[str] | str = next(reader)
            except csv.Error as error:
                if "unexpected end" in str(error):
                    what = "a double quote that opens in this row is never closed"
                    raise errors.InputError(f"{file.path}:{start}: {what}; {QUOTES}") from None
                after = "expected after" in str(error)
                fields = f"text follows a closing double quote; {QUOTES}" if after else f"not CSV: {error}"
            if len(fields) > 1 or any(field.strip() for field in fields):
                yield start, fields
    except StopIteration:
        return
    except UnicodeDecodeError:
        json_rows.decoded(file.rewound().read(), file.path)  # says where
        raise
    finally:
        csv.field_size_limit(limit)
        if not file.data.closed:
            text.detach()


def column_names(header: list[str] | str, line: int, path: str) -> list[str]:
    if isinstance(header, str):
        raise errors.InputError(f"{path}:{line}: {header}")
    names = [name.strip() or f"column {place}" for place, name in enumerate(header, start=1)]
    problem = json_rows.too_many_keys(len(names), "the header")
    if repeated := sorted(name for name, number in Counter(names).items() if number > 1):
        column = f"the column {words.shortened(repeated[0])}"
        problem = problem or f"{column} stands twice in the header; rename or leave out one of them"
    if problem:
        raise errors.InputError(f"{path}:{line}: {problem}")
    return names


def value_of(field: str, *, text: bool) -> object:
    """What a field holds; in a column of `text` only messages, or one, are something else."""
    word = field.strip()
    if not text and word.lower() in WORDS:
        return WORDS[word.lower()]
    if not text and NUMBER.fullmatch(word):
        with suppress(ValueError):  # too many digits
            return json.loads(word)
    if word[:1] not in ("[", "{"):
        return field
    try:
        value = json_rows.parsed(word)
    except json.JSONDecodeError as error:
        value = turns.python_value(word) if error.msg != "Extra data" else None
    several = value if isinstance(value, list) else [value]
    spoken = several and all(isinstance(one, dict) and SPEAKERS & one.keys() for one in several)
    return field if value is None or (text and not spoken) else value
