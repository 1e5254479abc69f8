"""Files and folders that are whole or absent, whatever happens while they are written; and files that only grow.

A line of a durable `Journal` is on disk before `append` returns. A process that is killed may leave a torn last line;
it is not read, and `keep` cuts it off before anything is written behind it.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trueup.errors import CheckpointError, InputError
from trueup.words import reason


def no_device(path: str | Path) -> Path:
    """The path of a file that somebody named and that is read as a whole: what a device holds may have no end.

    Raises:
        OSError: it is a device.
    """
    if Path(path).is_char_device() or Path(path).is_block_device():
        raise OSError("this is a device; name a file")
    return Path(path)


def cache_folder() -> Path:
    """Where what several runs can share is kept.

    `$TRUEUP_CACHE`, else `trueup` under `$XDG_CACHE_HOME`, else `~/.cache/trueup`.

    Raises:
        InputError: nobody has a home here, and neither is set.
    """
    given = os.environ.get("TRUEUP_CACHE")
    return Path(given) if given else _of_user("XDG_CACHE_HOME", ".cache")


def config_folder() -> Path:
    """Where what belongs to the user is kept: `trueup` under `$XDG_CONFIG_HOME`, else `~/.config/trueup`.

    Raises:
        InputError: nobody has a home here, and it is not set.
    """
    return _of_user("XDG_CONFIG_HOME", ".config")


def _of_user(variable: str, name: str) -> Path:
    try:
        return Path(os.environ.get(variable) or Path.home() / name) / "trueup"
    except RuntimeError:
        raise InputError(
            "there is no home folder to keep a cache in; point the environment variable TRUEUP_CACHE to a folder"
        ) from None


@contextmanager
def of_run(path: Path, what: str = "it") -> Iterator[None]:
    """Around what writes a file of a run.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path}: {what} cannot be written: {reason(error)}. Make room, and go on with --resume"
        ) from error


@contextmanager
def replaced_file(target: Path) -> Iterator[BinaryIO]:
    """A file to write that replaces `target` once it is safely on disk, and otherwise leaves no trace.

    Raises:
        OSError: it cannot be written; `target` is as it was.
    """
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

    Of the processes that write there, one may be at work at a time; what one left that was killed is removed.

    Raises:
        OSError: it cannot be written; `target` is as it was, or gone where the last rename alone failed.
    """
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
    """Hash of a file, or of the files in a folder with their names; empty where there is neither.

    Notes for people (`*.md`) and hidden files of a folder are left out.

    Args:
        taken: which files of a folder, by their names; None takes all others.

    Raises:
        OSError: a file cannot be read.
    """
    if not path.exists():
        return ""
    told = []
    for file in sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]:
        left = file.name.startswith(".") or file.suffix == ".md" if taken is None else not taken(file.name)
        if file == path or not left:
            told.append([file.name if path.is_dir() else "", file_hash(file)])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


class Journal:
    """One such file. Lines are bytes without their ends; what they say, its user knows.

    Args:
        path: the file; made by the first `append`.
        durable: see each line to the disk, so that it survives a loss of power.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path, self.durable = path, durable

    @property
    def size(self) -> int:
        """Bytes of the file; 0 where there is none."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> tuple[list[bytes], bytes]:
        """The lines that end, and what stands behind them: a torn line, or nothing. Both are empty without a file.

        Raises:
            OSError: it cannot be read.
        """
        *lines, torn = self.path.read_bytes().split(b"\n") if self.path.exists() else [b""]
        return lines, torn

    def keep(self, lines: Sequence[bytes]) -> None:
        """Cut off what stands behind these, which are the first lines of the file.

        Raises:
            OSError: it cannot be written.
        """
        self.cut(sum(len(line) + 1 for line in lines))

    def cut(self, size: int) -> None:
        """Cut off what stands behind so many bytes.

        Raises:
            OSError: it cannot be written.
        """
        if self.size > size:
            os.truncate(self.path, size)

    def append(self, *lines: bytes) -> None:
        """Add lines, all of them or none.

        Raises:
            OSError: the disk is full, or the file cannot be written; nothing is left of the lines.
        """
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
