"""Files of lines that only grow: what is in them survives whatever ends the process.

A line is on disk before `append` returns. A process that is killed may leave a torn last line; it is not read, and
`keep` cuts it off before anything is written behind it.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class Journal:
    """One such file. Lines are bytes without their ends; what they say, its user knows.

    Args:
        path: the file; made by the first `append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

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
            append(self.path, b"".join(line + b"\n" for line in lines))
        except OSError:
            with suppress(OSError):  # what stays is torn, and cut off when the file is next opened
                self.cut(size)
            raise


def append(path: Path, content: bytes) -> None:
    """Add bytes to a file, and see them to the disk."""
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
