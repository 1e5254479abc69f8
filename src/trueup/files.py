"""Files and folders that are whole or absent, whatever happens while they are written; and files that only grow.
A line of a durable `Journal` is on disk before `append` returns. A process that is killed may leave a torn last line;
it is not read, and `keep` cuts it off before anything is written behind it."""

import hashlib
import json
import os
import shutil
import tomllib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from trueup import errors, words


def no_device(path: str | Path) -> Path:
    """The path of a file that is read as a whole; OSError for a device, which may have no end."""
    if Path(path).is_char_device() or Path(path).is_block_device():
        raise OSError("this is a device; name a file")
    return Path(path)


def table_beside(module: str, name: str) -> dict[str, Any]:
    return tomllib.loads(Path(module).with_name(name).read_text(encoding="utf-8"))


def cache_folder() -> Path:
    """`$TRUEUP_CACHE`, else `trueup` under `$XDG_CACHE_HOME`, else `~/.cache/trueup`: what several runs can share."""
    given = os.environ.get("TRUEUP_CACHE")
    return Path(given) if given else _of_user("XDG_CACHE_HOME", ".cache")


def config_folder() -> Path:
    """What belongs to the user: `trueup` under `$XDG_CONFIG_HOME`, else `~/.config/trueup`."""
    return _of_user("XDG_CONFIG_HOME", ".config")


def _of_user(variable: str, name: str) -> Path:
    try:
        return Path(os.environ.get(variable) or Path.home() / name) / "trueup"
    except RuntimeError:
        raise errors.InputError(
            "there is no home folder to keep a cache in; point the environment variable TRUEUP_CACHE to a folder"
        ) from None


@contextmanager
def of_run(path: Path, what: str = "it") -> Iterator[None]:
    """Around what writes a file of a run; OSError becomes CheckpointError."""
    try:
        yield
    except OSError as error:
        raise errors.CheckpointError(
            f"{path}: {what} cannot be written: {words.reason(error)}. Make room, and go on with --resume"
        ) from error


@contextmanager
def replaced_file(target: Path) -> Iterator[BinaryIO]:
    """A file to write that replaces `target` once it is safely on disk, and otherwise leaves no trace."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, target)
        if os.name == "posix":
            flush_to_disk(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A folder to fill that replaces `target` once all of it is safely on disk, and otherwise leaves no trace.
    One process at a time may be at work; what one left that was killed is removed."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        for folder, _, names in os.walk(part, topdown=False):
            for name in names:
                flush_to_disk(Path(folder, name))
            flush_to_disk(Path(folder))
        shutil.rmtree(target, ignore_errors=True)
        os.rename(part, target)
        flush_to_disk(target.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def flush_to_disk(path: Path) -> None:
    """Make sure that a file's bytes, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def content_identity(path: Path, taken: Callable[[str], bool] | None = None) -> str:
    """Hash of a file, or of the files that are `taken` of a folder, without `*.md` and hidden ones; else empty."""
    if not path.exists():
        return ""
    told = []
    for file in sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]:
        left = file.name.startswith(".") or file.suffix == ".md" if taken is None else not taken(file.name)
        if file == path or not left:
            told.append([file.name if path.is_dir() else "", file_hash(file)])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


class Journal:
    """One such file, made by the first `append`; `durable` lines survive a loss of power."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path, self.durable = path, durable

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> tuple[list[bytes], bytes]:
        """The lines that end, and what stands behind them: a torn line, or nothing. Both are empty without a file."""
        *lines, torn = self.path.read_bytes().split(b"\n") if self.path.exists() else [b""]
        return lines, torn

    def keep(self, lines: Sequence[bytes]) -> None:
        """Cut off what stands behind these, which are the first lines of the file."""
        self.cut(sum(len(line) + 1 for line in lines))

    def cut(self, size: int) -> None:
        if self.size > size:
            os.truncate(self.path, size)

    def append(self, *lines: bytes) -> None:
        """Add lines, all of them or none, also where the disk is full."""
        size = self.size
        try:
            append(self.path, b"".join(line + b"\n" for line in lines), self.durable)
        except OSError:
            with suppress(OSError):  # what stays is torn, and cut off when the file is next opened
                self.cut(size)
            raise


def append(path: Path, content: bytes, durable: bool) -> None:
    """Add bytes to a file, and see them to the disk if they are to survive a loss of power."""
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())
