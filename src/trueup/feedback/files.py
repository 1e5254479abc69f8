"""A file of feedback as bytes: found, read, hashed, unpacked. Every way this can fail is one clear error."""

import gzip
import hashlib
import zlib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from trueup.errors import InputError
from trueup.words import listed

GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
FOREIGN = {
    b"PARE": ("an encrypted Parquet file", "write it without encryption"),
    b"ARROW1": ("an Arrow file", "write it as Parquet, or name the folder that save_to_disk wrote"),
    b"\xff\xff\xff\xff": ("an Arrow file", "write it as Parquet, or name the folder that save_to_disk wrote"),
    b"PK\x03\x04": ("a zip archive", "unpack it first"),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", "unpack it first, or pack it with gzip"),
    b"\xfd7zXZ": ("packed with xz", "unpack it first, or pack it with gzip"),
    b"BZh": ("packed with bzip2", "unpack it first, or pack it with gzip"),
    b"\xff\xfe": ("UTF-16 text", "convert it, e.g. with `iconv -f UTF-16 -t UTF-8`"),
    b"\xfe\xff": ("UTF-16 text", "convert it, e.g. with `iconv -f UTF-16 -t UTF-8`"),
    b"version https://git-lfs": ("a pointer left by Git LFS, not the file itself", "run `git lfs pull`"),
}
"""How files that are often given by mistake begin, what they are, and what to do."""
EXPECTED = "JSON lines, a JSON array, CSV or Parquet"
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""How files of feedback are usually called; `.gz` may follow."""


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file in memory, without its gzip wrapping and byte order mark."""

    path: str
    sha256: str
    """Of the bytes of the file as it lies on disk."""
    data: bytes = field(repr=False)


def load(path: str | Path) -> LoadedFile:
    """Read a plain or gzipped file; which of the two it is, its first bytes tell.

    Raises:
        InputError: it is absent, a folder, unreadable, damaged, empty, or of another format.
    """
    name = str(path)
    raw = read_bytes(Path(path))
    data = unpacked(raw, name).removeprefix(BOM)
    for start, (what, remedy) in FOREIGN.items():
        if data.startswith(start):
            raise InputError(f"{name}: this is {what}; expected {EXPECTED}; {remedy}")
    if not data.strip():
        raise InputError(f"{name}: the file is empty; expected one JSON object on each line")
    return LoadedFile(name, hashlib.sha256(raw).hexdigest(), data)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, or an error that helps to find the right one."""
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder; name a file{inside(path)}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{absent_hint(path)}") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(f"{str(path)!r}: the file cannot be read: {reason}") from None


def inside(folder: Path) -> str:
    """Which files in a folder may have been meant, for the message: ` in it: a.jsonl, b.csv`."""
    files = [name for name in names_in(folder) if name.removesuffix(".gz").endswith(SUFFIXES)]
    return f" in it: {listed(files)}" if files else "; none with feedback is in it"


def absent_hint(path: Path) -> str:
    """What to do about a file that is not there: near names, or the folder that is missing."""
    missing = [folder for folder in path.parents if not folder.exists()]
    if missing:
        return f"; the folder {missing[-1]} does not exist"
    near = get_close_matches(path.name, names_in(path.parent), n=3)
    return f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""


def names_in(folder: Path) -> list[str]:
    """The names in a folder; none where it cannot be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def unpacked(raw: bytes, name: str) -> bytes:
    """The bytes without gzip, whatever the file is called."""
    if not raw.startswith(GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        what = "cut short" if isinstance(error, EOFError) else "damaged"
        raise InputError(
            f"{name}: the gzip data is {what} ({error}); copy or download the file again "
            "(`gzip -t` tells whether it is whole)"
        ) from None
