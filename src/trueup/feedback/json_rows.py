"""The rows of a file of JSON with their numbers: JSON lines or a JSON array, told apart by content."""

import json
import math
import os
import re
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import IO

from trueup import errors, words
from trueup.feedback.fields import described

BOM = b"\xef\xbb\xbf"
OBJECTS = "put one whole JSON object on each line"
CSV_HINT = " (or, where it is CSV, let its name end in .csv or .tsv)"
TOO_DEEP = "lists or objects are nested too deeply"
LONE = re.compile("[\ud800-\udfff]")
ALWAYS = 2**28
"""Bytes that any file may unpack to, however small it is: a packed file of a few kilobytes can stand for gigabytes."""
RATIO = 100
"""Times its own size that a larger file may unpack to. Text packs to a fifth or a tenth, text that repeats itself to a
fiftieth."""
MOST_KEYS = 1000


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LoadedFile:
    """A file that is being read, closed when nobody holds this any more."""

    path: str
    sha256: str
    size: int
    data: IO[bytes] = field(repr=False)
    state: tuple[int, ...] = ()
    """What tells the file that was hashed from a changed one; empty where it is read from elsewhere."""

    def __post_init__(self) -> None:
        weakref.finalize(self, self.data.close)

    def rewound(self) -> IO[bytes]:
        self.data.seek(0)
        self.data.seek(len(BOM) if self.data.read(len(BOM)) == BOM else 0)
        return self.data

    def beginning(self) -> bytes:
        """The first line with more than white space, from there on; empty where there is none."""
        return next((line.lstrip() for line in self.rewound() if line.strip()), b"")

    def check(self) -> None:
        if self.state and state_of(self.data) != self.state:
            again = "put back what the run began with and resume, or begin a new run"
            raise errors.InputError(f"{self.path}: the file has changed while rows of it were read; {again}")


@dataclass(frozen=True, slots=True)
class FileRow:
    """An object of a file: `FileRow(3, {"prompt": "2 + 2 =", "completion": "4"})`."""

    number: int
    """1-based: the line of a file of JSON lines or CSV, the item of an array, the row of a table."""
    value: Mapping[str, object] = field(default_factory=dict)
    error: str = ""
    empty: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeated:
    """What stands in the place of a value whose key an object holds twice."""

    key: str


def state_of(file: IO[bytes]) -> tuple[int, ...]:
    about = os.fstat(file.fileno())
    return about.st_ino, about.st_size, about.st_mtime_ns


def unpacked_limit(size: int) -> int:
    return max(ALWAYS, RATIO * size)


def unpacks_to_too_much(name: str, size: int) -> errors.InputError:
    most = unpacked_limit(size) / 2**20
    much = f"these {size} bytes unpack to more than {most:.0f} MiB, which no feedback does"
    return errors.InputError(f"{name}: {much}; if it is what you want, give it unpacked, as JSON lines")


def too_many_keys(number: int, of: str) -> str:
    if number <= MOST_KEYS:
        return ""
    return f"{of} has {number} keys; at most {MOST_KEYS} are read: leave out those that are not feedback"


def json_rows(file: LoadedFile) -> Iterator[FileRow]:
    """The rows of a file of JSON, in order; blank lines count as lines but are no rows."""
    if file.beginning().startswith(b"["):
        yield from array_rows(file)
        return
    lines = ((number, line) for number, line in enumerate(file.rewound(), start=1) if line.strip())
    for (number, line), (after, _) in pairwise(chain(lines, [(0, b"")])):
        yield line_row(line, number, file.path, last=not after)


def is_lines(file: LoadedFile) -> bool:
    first = file.beginning()
    return first.startswith(b"{") and not line_row(first, 1, file.path, last=False).error


def array_rows(file: LoadedFile) -> Iterator[FileRow]:
    text = decoded(file.rewound().read(), file.path)
    try:
        items = parsed(text)
    except json.JSONDecodeError as error:
        remedy = "the array is cut off: make or copy the file again" if is_cut(error) else "mend the array there"
        raise errors.InputError(syntax_error(file.path, error, "array", remedy)) from None
    assert isinstance(items, list)
    for number, item in enumerate(items, start=1):
        yield checked(item, number, file.path)


def line_row(line: bytes, number: int, path: str, *, last: bool) -> FileRow:
    try:
        text = decoded(line, path, number).removeprefix("\ufeff").rstrip("\r\n")
        return checked(parsed(text), number, path)
    except json.JSONDecodeError as error:
        if is_cut(error) and last:
            remedy = "the last line is cut off: delete it, or make or copy the file again"
        elif is_cut(error):
            remedy = f"the object does not end on its line: {OBJECTS}"
        else:
            nothing = not text[: error.pos].strip() and number == 1
            remedy = OBJECTS + (CSV_HINT if nothing else "")
        return FileRow(number, error=syntax_error(path, error, "object", remedy, number))
    except errors.InputError as error:
        return FileRow(number, error=str(error))


def decoded(data: bytes, path: str, line: int = 1) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start - (data.rfind(b"\n", 0, error.start) + 1)
        line += data.count(b"\n", 0, error.start)
        byte = f"byte 0x{data[error.start]:02x} at byte offset {at} of the line is not UTF-8"
        raise errors.InputError(f"{path}:{line}: {byte}; convert it, as by `iconv -f ISO-8859-1 -t UTF-8`") from None


def parsed(text: str) -> object:
    """The JSON value of a text, `Repeated` for a key that stands twice; else raises JSONDecodeError."""
    try:
        return json.loads(text, object_pairs_hook=with_repeated)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError(TOO_DEEP, text, 0) from None
    except ValueError:
        raise json.JSONDecodeError("a number has too many digits", text, 0) from None


def with_repeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made: dict[str, object] = {}
    for key, value in pairs:
        made[key] = Repeated(key) if key in made else value
    return made


def checked(value: object, number: int, path: str, empty: tuple[str, ...] = ()) -> FileRow:
    """The row, if it is an object whose keys are unique, whose numbers are finite and whose text is text."""
    if not isinstance(value, dict):
        problem: str | None = f"a row must be an object {{...}}; found {described(value)}"
    elif not (problem := too_many_keys(len(value), "the row")):
        try:
            problem = first_fault(value, "")
        except RecursionError:
            problem = TOO_DEEP
        if problem is None:
            return FileRow(number, value, empty=empty)
    return FileRow(number, error=f"{path}:{number}: {problem}", empty=empty)


def first_fault(value: object, path: str) -> str | None:
    """The first value that JSON as such does not allow, with its key path; None where all is well."""
    if isinstance(value, str):
        if not value.isascii() and LONE.search(value):
            half = "half a character (a lone surrogate, \\ud800 to \\udfff)"
            return f"{path}: the text holds {half}; remove it"
    elif isinstance(value, float):
        if not math.isfinite(value):
            return f"{path}: found {value}; numbers must be finite: leave the row or the key out"
    elif isinstance(value, dict):
        for key, one in value.items():
            inner = f"{path}.{words.printable(key)}" if path else words.printable(key)
            if fault := first_fault(key, "a key") or first_fault(one, inner):
                return fault
    elif isinstance(value, list):
        for index, one in enumerate(value):
            if fault := first_fault(one, f"{path}[{index}]"):
                return fault
    elif isinstance(value, Repeated):
        return f"the key {words.shortened(value.key)} stands twice in one object; keep one of them"
    elif value is not None and not isinstance(value, int):
        what = "binary data" if isinstance(value, bytes) else f"a value of the type {type(value).__name__}"
        return f"{path}: found {what}, which JSON does not have; leave the column out"
    return None


def is_cut(error: json.JSONDecodeError) -> bool:
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")


def what_is_wrong(error: json.JSONDecodeError, of: str) -> str:
    if error.msg == "Extra data":
        return f"more text after the end of the {of}"
    problem = error.msg.removesuffix(" at").removesuffix(" starting")
    return problem[:1].lower() + problem[1:]


def syntax_error(path: str, error: json.JSONDecodeError, of: str, remedy: str, line: int = 0) -> str:
    text, at = error.doc.split("\n")[error.lineno - 1], error.colno - 1
    start = max(0, at - 20)
    excerpt = ("..." if start else "") + text[start : at + 20].rstrip()
    more = "..." if at + 20 < len(text.rstrip()) else ""
    near = f" near {excerpt + more!r}" if excerpt else ""
    where = f"{path}:{line or error.lineno}:{error.colno}"
    return f"{where}: not JSON: {what_is_wrong(error, of)}{near}; {remedy}"
