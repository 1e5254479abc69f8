"""Files and folders that are whole or absent, whatever happens while they are written."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


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
        OSError: it cannot be written; `target` is as it was.
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
