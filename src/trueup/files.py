"""Files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replaced_whole(target: Path) -> Iterator[BinaryIO]:
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


def flush_to_disk(path: Path) -> None:
    """Make sure that a file's bytes, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
