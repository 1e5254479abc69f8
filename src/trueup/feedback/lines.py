"""The rows of a file of JSON with their numbers: JSON lines or a JSON array, told apart by content.

A row that is not sound comes back as a `BadRow` that carries the error, so that the reader decides whether
it is fatal. In an array nothing can be read after a fault of syntax; there it is raised.
"""

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trueup.errors import InputError
from trueup.feedback.fields import described
from trueup.feedback.files import LoadedFile
from trueup.words import printable, shortened

SPACE = re.compile(r"[ \t\r\n]*")
OBJECTS = "put one whole JSON object on each line"
CSV_HINT = " (or, where it is CSV, let its name end in .csv or .tsv)"


@dataclass(frozen=True, slots=True)
class Row:
    """An object of a file: `Row(3, {"prompt": "2 + 2 =", "completion": "4"})`."""

    number: int
    """1-based: the line of a file of JSON lines or CSV, the item of an array, the row of a table."""
    value: Mapping[str, object]
    empty: tuple[str, ...] = ()
    """Columns of CSV whose field is empty in this row."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read, and why."""

    number: int
    error: InputError


class Fault(Exception):
    """A fault of syntax at a position of a text."""

    def __init__(self, problem: str, at: int) -> None:
        super().__init__(problem)
        self.problem, self.at = problem, at


def json_rows(file: LoadedFile) -> Iterator[Row | BadRow]:
    """The rows of a file of JSON, in order.

    Raises:
        InputError: the file is an array whose syntax is broken, or one object that holds the rows as a list.
    """
    return array_rows(file) if file.data.lstrip()[:1] == b"[" else line_rows(file)


def line_rows(file: LoadedFile) -> Iterator[Row | BadRow]:
    """One row a line; blank lines count as lines but are no rows.

    Raises:
        InputError: the file is one object over several lines that holds the rows as a list.
    """
    last = file.data.rstrip().count(b"\n") + 1
    first = True
    for number, line in enumerate(io.BytesIO(file.data), start=1):
        if not line.strip():
            continue
        try:
            yield line_row(line, number, file.path, last=number == last)
        except InputError as error:
            if first and number < last:
                refuse_wrapped(file)
            yield BadRow(number, error)
        first = False


def refuse_wrapped(file: LoadedFile) -> None:
    """Refuse one object over several lines that holds the rows as a list; do nothing for any other file.

    Raises:
        InputError: the file is such an object.
    """
    try:
        whole = json.loads(file.data)
    except (ValueError, RecursionError):
        return
    for key, value in whole.items() if isinstance(whole, dict) else ():
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict) and not {"role", "from"} & first.keys():  # turns are no rows
            remedy = "write that list alone, or one of its objects on each line"
            raise InputError(f"{file.path}: the rows are wrapped in {printable(key)!r}: {remedy}") from None


def line_row(line: bytes, number: int, path: str, *, last: bool) -> Row:
    """The row of one line."""
    text = decoded(line, path, number).removeprefix("\ufeff").rstrip("\r\n")
    try:
        start = skip_space(text, 0)
        value, end, repeated = parsed(text, start)
        end = skip_space(text, end)
        if end < len(text):
            raise Fault("more text after the end of the object", end)
    except Fault as fault:
        cut = fault.at >= len(text.rstrip()) or fault.problem.startswith("unterminated string")
        if cut and last:
            remedy = "the last line is cut off: delete it, or make or copy the file again"
        elif cut:
            remedy = f"the object does not end on its line: {OBJECTS}"
        else:
            remedy = OBJECTS + (CSV_HINT if fault.at == start and number == 1 else "")
        raise syntax_error(path, number, text, fault, remedy) from None
    return checked(value, repeated, number, path)


def array_rows(file: LoadedFile) -> Iterator[Row | BadRow]:
    """One row an item of the array."""
    text = "".join(
        decoded(line, file.path, number) for number, line in enumerate(io.BytesIO(file.data), start=1)
    )
    try:
        at = skip_space(text, skip_space(text, 0) + 1)
        number, more = 0, text[at : at + 1] != "]"
        while more:
            value, at, repeated = parsed(text, at)
            number += 1
            try:
                yield checked(value, repeated, number, file.path)
            except InputError as error:
                yield BadRow(number, error)
            at = skip_space(text, at)
            more = text[at : at + 1] == ","
            if not more and text[at : at + 1] != "]":
                raise Fault("expecting ',' or ']' after an item", at)
            at = skip_space(text, at + 1) if more else at
        if skip_space(text, at + 1) < len(text):
            raise Fault("more text after the end of the array", skip_space(text, at + 1))
    except Fault as fault:
        cut = fault.at >= len(text.rstrip()) or fault.problem.startswith("unterminated string")
        remedy = "the array is cut off: make or copy the file again" if cut else "mend the array there"
        line = text.count("\n", 0, fault.at) + 1
        start = text.rfind("\n", 0, fault.at) + 1
        end = text.find("\n", fault.at)
        here = text[start : end if end >= 0 else len(text)]
        raise syntax_error(file.path, line, here, Fault(fault.problem, fault.at - start), remedy) from None


def decoded(line: bytes, path: str, number: int) -> str:
    """The line as text; every byte must be UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}:{number}: byte 0x{line[error.start]:02x} at byte offset {error.start} of the line "
            "is not UTF-8; convert the file, e.g. with `iconv -f ISO-8859-1 -t UTF-8`"
        ) from None


def parsed(text: str, start: int) -> tuple[object, int, list[str]]:
    """The JSON value that starts at `start`, where it ends, and keys that an object in it holds twice."""
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            repeated.extend(sorted({name for name in names if names.count(name) > 1}))
        return made

    try:
        value, end = json.JSONDecoder(object_pairs_hook=unique).raw_decode(text, start)
    except json.JSONDecodeError as error:
        problem = error.msg.removesuffix(" at").removesuffix(" starting")
        raise Fault(problem[:1].lower() + problem[1:], error.pos) from None
    except RecursionError:
        raise Fault("lists or objects are nested too deeply", start) from None
    except ValueError:
        raise Fault("a number has too many digits", start) from None
    return value, end, repeated


def checked(value: object, repeated: list[str], number: int, path: str) -> Row:
    """The row, if it is an object whose keys are unique, whose numbers are finite and whose text is text."""
    where = f"{path}:{number}"
    if not isinstance(value, dict):
        raise InputError(f"{where}: a row must be an object {{...}}; found {described(value)}")
    if repeated:
        raise InputError(
            f"{where}: the key {shortened(repeated[0])} stands twice in one object; keep one of them"
        )
    try:
        fault = first_fault(value, "")
    except RecursionError:
        fault = "lists or objects are nested too deeply"
    if fault:
        raise InputError(f"{where}: {fault}")
    return Row(number, value)


def first_fault(value: object, path: str) -> str | None:
    """The first value that JSON as such does not allow, with its key path; None where all is well."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return (
                f"{path}: the text holds half a character (a lone surrogate, \\ud800 to \\udfff); remove it"
            )
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path}: found {value}; numbers must be finite: leave the row or the key out"
    if isinstance(value, dict):
        for key, one in value.items():
            inner = f"{path}.{printable(key)}" if path else printable(key)
            if fault := first_fault(key, "a key") or first_fault(one, inner):
                return fault
    if isinstance(value, list):
        for index, one in enumerate(value):
            if fault := first_fault(one, f"{path}[{index}]"):
                return fault
    if value is not None and not isinstance(value, int | float | dict | list):
        what = "binary data" if isinstance(value, bytes) else f"a value of the type {type(value).__name__}"
        return f"{path}: found {what}, which JSON does not have; leave the column out"
    return None


def skip_space(text: str, at: int) -> int:
    """The first position from `at` that is not white space."""
    match = SPACE.match(text, at)
    return match.end() if match else at


def syntax_error(path: str, line: int, text: str, fault: Fault, remedy: str) -> InputError:
    """The error for a fault of syntax: file:line:column, what is wrong, an excerpt, the remedy."""
    start = max(0, fault.at - 20)
    excerpt = ("..." if start else "") + text[start : fault.at + 20].rstrip()
    more = "..." if fault.at + 20 < len(text.rstrip()) else ""
    near = f" near {excerpt + more!r}" if excerpt else ""
    return InputError(f"{path}:{line}:{fault.at + 1}: not JSON: {fault.problem}{near}; {remedy}")
