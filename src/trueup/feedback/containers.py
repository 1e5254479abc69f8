"""Where rows of feedback come from: files of JSON, CSV or Parquet, plain or gzipped, folders, data sets of the hub."""

import gzip
import hashlib
import io
import json
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from trueup import display, errors, python_objects, stop, words
from trueup.feedback import columns, csv_rows, json_rows, tables
from trueup.files import cache_folder, no_device

GZIP = b"\x1f\x8b"
IN_MEMORY = 2**26
CHUNK = 2**18
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
EXPECTED = "JSON lines, a JSON array, CSV or Parquet"


@dataclass(frozen=True, slots=True)
class Opened:
    name: str
    rows: Iterator[json_rows.FileRow]
    sha256: Callable[[], str]
    file: json_rows.LoadedFile | None = None


def opened(path: str | Path, table: columns.Table = columns.AS_IT_IS) -> Opened:
    """Find a source of feedback: a file, a folder written by `save_to_disk`, or a data set of the hub."""
    found = as_it_stands(path, table)
    return replace(found, rows=table.rows(found.rows, found.name)) if table != columns.AS_IT_IS else found


def as_it_stands(path: str | Path, table: columns.Table) -> Opened:
    """As `opened`, with rows under the names that they have there."""
    if isinstance(path, str) and tables.is_hub(path):
        return _without_bytes(path, tables.hub_rows(path))
    if tables.is_saved(Path(path)):
        return _without_bytes(str(path), tables.saved_rows(Path(path)))
    file = load(path)
    return Opened(file.path, rows_of(file, table), lambda: file.sha256, file)


def hold_rows(what: str, rows: Any) -> str:
    """The name under which rows in memory, dicts or a `datasets.Dataset`, are read as a file of JSON lines is."""
    if is_dataset(rows):
        found = list(tables.batch_rows(rows.with_format("arrow").iter(tables.BATCH), what))
        if bad := next((row.error for row in found if row.error), None):
            raise errors.InputError(bad)
        rows = [row.value for row in found]
    lines = []
    for number, row in enumerate(rows, start=1):
        try:
            lines.append(json.dumps(dict(row)))
        except (TypeError, ValueError, RecursionError) as error:
            kind = "is no dict of texts, numbers, lists and dicts"
            raise errors.InputError(f"{what}: row {number} {kind} ({words.one_line(error)})") from None
    if not lines:
        raise errors.InputError(f"{what}: there are no rows; give at least one")
    data = "\n".join(lines).encode()
    return python_objects.hold(f"{what}-{hashlib.sha256(data).hexdigest()[:12]}", data)


def is_dataset(value: Any) -> bool:
    kind = type(value)
    return kind.__name__ == "Dataset" and kind.__module__.startswith("datasets.")


def refuse_unreadable(name: str) -> None:
    if name.startswith(python_objects.PREFIX):
        python_objects.held(name)
    elif tables.is_hub(name):
        tables.hub_name(name)
        tables.need("datasets", name)
    elif tables.is_saved(Path(name)):
        tables.refuse_several(Path(name))
        tables.need("datasets", name)


def _without_bytes(name: str, found: Iterator[json_rows.FileRow]) -> Opened:
    digest = hashlib.sha256()

    def hashed() -> Iterator[json_rows.FileRow]:
        for row in found:
            content = str(row.number) if row.error else row.value
            digest.update(json.dumps(content, sort_keys=True).encode() + b"\n")
            yield row

    return Opened(name, _some(hashed(), name), digest.hexdigest)


def load(path: str | Path) -> json_rows.LoadedFile:
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
            raise errors.InputError(f"{name}: this is {what}; expected {EXPECTED}; {remedy}")
    if not file.beginning():
        raise errors.InputError(f"{name}: the file is empty; expected one JSON object on each line")
    return file


def rows_of(file: json_rows.LoadedFile, table: columns.Table = columns.AS_IT_IS) -> Iterator[json_rows.FileRow]:
    where = ""
    if file.rewound().read(len(tables.PARQUET)) == tables.PARQUET:
        found = tables.batch_rows(tables.parquet_batches(file), file.path)
    elif csv_rows.is_csv(file):
        found, where = csv_rows.csv_rows(file, table.called), " below its header"
    else:
        found = json_rows.json_rows(file)
    yield from _some(found, file.path, where)
    file.check()


def _some(found: Iterator[json_rows.FileRow], name: str, where: str = "") -> Iterator[json_rows.FileRow]:
    empty = True
    for row in found:
        empty = False
        yield row
    if empty:
        raise errors.InputError(f"{name}: the file holds no rows{where}")


def read_bytes(path: Path) -> bytes:
    with _readable(path):
        return no_device(path).read_bytes()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except IsADirectoryError:
        raise errors.InputError(f"{path}: this is a folder; name a file{inside(path)}") from None
    except FileNotFoundError:
        raise errors.InputError(f"{path}: no such file{absent_hint(path)}") from None
    except (OSError, ValueError) as error:
        raise errors.InputError(f"{str(path)!r}: the file cannot be read: {words.reason(error)}") from None


def inside(folder: Path) -> str:
    files = [name for name in _names_in(folder) if name.removesuffix(".gz").endswith(tables.SUFFIXES)]
    return f" in it: {words.listed(files)}" if files else "; none with feedback is in it"


def absent_hint(path: Path) -> str:
    missing = [folder for folder in path.parents if not folder.exists()]
    if missing:
        return f"; the folder {missing[-1]} does not exist"
    near = words.near_names(path.name, _names_in(path.parent))
    return f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def _unpacked(file: json_rows.LoadedFile) -> json_rows.LoadedFile:
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
            again = "copy or download the file again (`gzip -t` tests it)"
            raise errors.InputError(f"{file.path}: the gzip data is {what} ({error}); {again}") from None
    return made


@contextmanager
def spill(name: str) -> Iterator[IO[bytes]]:
    folder = cache_folder()
    try:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        data: IO[bytes] = SpooledTemporaryFile(IN_MEMORY, dir=str(folder))  # noqa: SIM115, its reader closes it
        yield data
        if (size := data.tell()) > IN_MEMORY:
            told = f"unpacked to {size >> 20} MiB in {folder}, for as long as the process lives"
            display.data_logger.info(f"{name}: {told}")
    except OSError as error:
        kept = f"what it unpacks to cannot be kept in {folder}: {words.reason(error)}"
        raise errors.InputError(f"{name}: {kept}. Point TRUEUP_CACHE to a folder with room") from None


@dataclass(frozen=True, slots=True, eq=False)
class LineFile:
    """Such a source. A file of JSON lines must stay as it is while it is used, which is looked at with every row."""

    path: str
    sha256: str
    numbers: "array[int]"
    """[N] the number of each row; blank lines are no rows."""
    places: "array[int]"
    """[N] the byte at which it begins."""
    file: json_rows.LoadedFile
    written: int
    """Bytes of rows that were written to it; 0 where it holds the source's own lines."""

    def __len__(self) -> int:
        return len(self.numbers)

    def row(self, index: int) -> json_rows.FileRow:
        try:
            self.file.check()
            self.file.data.seek(self.places[index])
            line = self.file.data.readline()
        except OSError as error:
            raise errors.InputError(f"{self.path}: the file cannot be read any more: {words.reason(error)}") from None
        if self.written:
            value, problem, empty = json.loads(line)
            return json_rows.FileRow(self.numbers[index], value, problem, tuple(empty))
        return json_rows.line_row(line, self.numbers[index], self.path, last=index + 1 == len(self))


def line_file(path: str, table: columns.Table) -> LineFile:
    source = as_it_stands(path, table)
    numbers, places = array("q"), array("q")
    if source.file is not None and json_rows.is_lines(source.file):
        lines = source.file.rewound()
        place = lines.tell()
        for number, line in enumerate(lines, 1):
            stop.check()
            if line.strip():
                numbers.append(number)
                places.append(place)
            place += len(line)
        source.file.check()
        return LineFile(source.name, source.sha256(), numbers, places, source.file, 0)
    with spill(source.name) as data:
        file, place = json_rows.LoadedFile(source.name, "", 0, data), 0
        for row in source.rows:
            stop.check()
            numbers.append(row.number)
            places.append(place)
            place += data.write(json.dumps([row.value, row.error, row.empty]).encode() + b"\n")
        data.flush()
    return LineFile(source.name, source.sha256(), numbers, places, file, place)
