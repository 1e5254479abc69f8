"""Where rows of feedback come from: files of JSON, CSV or Parquet, plain or gzipped, folders, data sets of the hub.

Every way in which a source can fail to be found or read is one clear error.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from trueup import python_objects
from trueup.display import data_logger
from trueup.errors import InputError
from trueup.feedback import csv_rows, hub, json_rows, tables
from trueup.feedback.columns import AS_IT_IS, Table
from trueup.files import cache_folder, no_device
from trueup.words import listed, near_names, one_line, reason

GZIP = b"\x1f\x8b"
IN_MEMORY = 2**26
"""Bytes of what is unpacked up to which no file is made."""
CHUNK = 2**18
"""Bytes unpacked at a time."""
ARROW = ("an Arrow file", "write it as Parquet, or name the folder that save_to_disk wrote")
UTF_16 = ("UTF-16 text", "convert it, e.g. with `iconv -f UTF-16 -t UTF-8`")
FOREIGN = {
    b"PARE": ("an encrypted Parquet file", "write it without encryption"),
    b"ARROW1": ARROW,
    b"\xff\xff\xff\xff": ARROW,
    b"PK\x03\x04": ("a zip archive", "unpack it first"),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", "unpack it first, or pack it with gzip"),
    b"\xfd7zXZ": ("packed with xz", "unpack it first, or pack it with gzip"),
    b"BZh": ("packed with bzip2", "unpack it first, or pack it with gzip"),
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    b"version https://git-lfs": ("a pointer left by Git LFS, not the file itself", "run `git lfs pull`"),
}
"""How files that are often given by mistake begin, what they are, and what to do."""
EXPECTED = "JSON lines, a JSON array, CSV or Parquet"


@dataclass(frozen=True, slots=True)
class Opened:
    """A source of feedback that has been found, and its rows."""

    name: str
    """As it was given."""
    rows: Iterator[json_rows.FileRow]
    sha256: Callable[[], str]
    """Hash of the bytes of a file, or of the content of all rows; asked for when these have been read."""
    file: json_rows.LoadedFile | None = None
    """Where it is one."""


def opened(path: str | Path, table: Table = AS_IT_IS) -> Opened:
    """Find a source of feedback: a file, a folder written by `save_to_disk`, or a data set of the hub.

    Args:
        path: as text it may also name a data set of the hub, see `trueup.feedback.hub.is_hub`.
        table: how its columns are called here.

    Raises:
        InputError: it is absent, unreadable, of another format, or needs a package that is not installed.
    """
    found = as_it_stands(path, table)
    return replace(found, rows=table.rows(found.rows, found.name)) if table != AS_IT_IS else found


def as_it_stands(path: str | Path, table: Table) -> Opened:
    """As `opened`, with rows under the names that they have there."""
    if isinstance(path, str) and hub.is_hub(path):
        return _without_bytes(path, hub.hub_rows(path))
    if tables.is_saved(Path(path)):
        return _without_bytes(str(path), tables.saved_rows(Path(path)))
    file = load(path)
    return Opened(file.path, rows_of(file, table), lambda: file.sha256, file)


def hold_rows(what: str, rows: Any) -> str:
    """The name under which rows in memory are read as a file of JSON lines is; it tells them from all others.

    Args:
        what: they are given as, for messages.
        rows: dicts, or a `datasets.Dataset`.

    Raises:
        InputError: there are none, or a row holds what JSON does not have.
    """
    if is_dataset(rows):
        found = list(tables.batch_rows(rows.with_format("arrow").iter(tables.BATCH), what))
        if bad := next((row.error for row in found if row.error), None):
            raise InputError(bad)
        rows = [row.value for row in found]
    lines = []
    for number, row in enumerate(rows, start=1):
        try:
            lines.append(json.dumps(dict(row)))
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"{what}: row {number} is no dict of texts, numbers, lists and dicts ({one_line(error)})"
            ) from None
    if not lines:
        raise InputError(f"{what}: there are no rows; give at least one")
    data = "\n".join(lines).encode()
    return python_objects.hold(f"{what}-{hashlib.sha256(data).hexdigest()[:12]}", data)


def is_dataset(value: Any) -> bool:
    """Whether it is a `datasets.Dataset`, told without the library."""
    kind = type(value)
    return kind.__name__ == "Dataset" and kind.__module__.startswith("datasets.")


def refuse_unreadable(name: str) -> None:
    """Refuse, without reading it, what cannot be read: a hub's name or a folder that is not in order.

    Raises:
        InputError: see `opened`; a file is not looked at.
    """
    if name.startswith(python_objects.PREFIX):
        python_objects.held(name)
    elif hub.is_hub(name):
        hub.hub_name(name)
        tables.need("datasets", name)
    elif tables.is_saved(Path(name)):
        tables.refuse_several(Path(name))
        tables.need("datasets", name)


def _without_bytes(name: str, found: Iterator[json_rows.FileRow]) -> Opened:
    """A source that has no bytes of its own, with the hash of the content of its rows."""
    digest = hashlib.sha256()

    def hashed() -> Iterator[json_rows.FileRow]:
        for row in found:
            digest.update(tables.content_line(row))
            yield row

    return Opened(name, _some(hashed(), name), digest.hexdigest)


def load(path: str | Path) -> json_rows.LoadedFile:
    """Read a plain or gzipped file; which of the two it is, its first bytes tell.

    Raises:
        InputError: it is absent, a folder, unreadable, damaged, empty, or of another format.
    """
    name = str(path)
    with _readable(Path(path)):
        raw: io.BufferedReader | io.BytesIO
        if name.startswith(python_objects.PREFIX):
            raw = io.BytesIO(python_objects.held(name))
        else:
            raw = io.BufferedReader(io.FileIO(no_device(path)))
        if not raw.seekable():
            with raw:
                raw = io.BytesIO(raw.read())
        state = () if isinstance(raw, io.BytesIO) else json_rows.state_of(raw)
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
    file = json_rows.LoadedFile(name, digest, raw.tell(), raw, state)
    if file.rewound().read(len(GZIP)) == GZIP:
        file = _unpacked(file)
    head = file.rewound().read(max(map(len, FOREIGN)))
    for start, (what, remedy) in FOREIGN.items():
        if head.startswith(start):
            raise InputError(f"{name}: this is {what}; expected {EXPECTED}; {remedy}")
    if not file.beginning():
        raise InputError(f"{name}: the file is empty; expected one JSON object on each line")
    return file


def rows_of(file: json_rows.LoadedFile, table: Table = AS_IT_IS) -> Iterator[json_rows.FileRow]:
    """The rows of a file, in order. Its content tells its format, and for CSV its name as well.

    Args:
        table: how its columns are called here.

    Raises:
        InputError: the file holds no rows, has changed, or its syntax is broken so that no more can be read.
    """
    where = ""
    if file.rewound().read(len(tables.PARQUET)) == tables.PARQUET:
        found = tables.parquet_rows(file)
    elif csv_rows.is_csv(file):
        found, where = csv_rows.csv_rows(file, table.called), " below its header"
    else:
        found = json_rows.json_rows(file)
    yield from _some(found, file.path, where)
    file.check()


def _some(found: Iterator[json_rows.FileRow], name: str, where: str = "") -> Iterator[json_rows.FileRow]:
    """The rows; none at all is an error."""
    empty = True
    for row in found:
        empty = False
        yield row
    if empty:
        raise InputError(f"{name}: the file holds no rows{where}")


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, or an error that helps to find the right one."""
    with _readable(path):
        return no_device(path).read_bytes()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder; name a file{inside(path)}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{absent_hint(path)}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r}: the file cannot be read: {reason(error)}") from None


def inside(folder: Path) -> str:
    """Which files in a folder may have been meant, for the message: ` in it: a.jsonl, b.csv`."""
    files = [name for name in _names_in(folder) if name.removesuffix(".gz").endswith(hub.SUFFIXES)]
    return f" in it: {listed(files)}" if files else "; none with feedback is in it"


def absent_hint(path: Path) -> str:
    """What to do about a file that is not there: near names, or the folder that is missing."""
    missing = [folder for folder in path.parents if not folder.exists()]
    if missing:
        return f"; the folder {missing[-1]} does not exist"
    near = near_names(path.name, _names_in(path.parent))
    return f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""


def _names_in(folder: Path) -> list[str]:
    """The names in a folder; none where it cannot be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def _unpacked(file: json_rows.LoadedFile) -> json_rows.LoadedFile:
    """The file without gzip, whatever it is called."""
    source = gzip.GzipFile(fileobj=file.rewound())
    most = json_rows.unpacked_limit(file.size)
    with spill(file.path) as data:
        made = replace(file, data=data, state=())
        try:
            while chunk := source.read(CHUNK):
                data.write(chunk)
                if data.tell() > most:
                    raise json_rows.unpacks_to_too_much(file.path, file.size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            what = "cut short" if isinstance(error, EOFError) else "damaged"
            raise InputError(
                f"{file.path}: the gzip data is {what} ({error}); copy or download the file again "
                "(`gzip -t` tells whether it is whole)"
            ) from None
    return made


@contextmanager
def spill(name: str) -> Iterator[IO[bytes]]:
    """A file to write what a source unpacks to; it has no name and is gone with the process. A large one is told.

    Raises:
        InputError: there is no room for it.
    """
    folder = cache_folder()
    try:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        data: IO[bytes] = SpooledTemporaryFile(IN_MEMORY, dir=str(folder))  # noqa: SIM115, its reader closes it
        yield data
        if (size := data.tell()) > IN_MEMORY:
            data_logger.info(
                f"{name}: unpacked to {size >> 20} MiB in {folder}, for as long as the process lives"
            )
    except OSError as error:
        raise InputError(
            f"{name}: what it unpacks to cannot be kept in {folder}: {reason(error)}. Point the environment variable "
            "TRUEUP_CACHE to a folder with room"
        ) from None
