"""A plain file of JSON lines whose rows are read when they are asked for; only where they begin is in memory."""

import hashlib
import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trueup import stop
from trueup.errors import InputError
from trueup.feedback.containers import BOM
from trueup.feedback.json_rows import FileRow, line_row
from trueup.words import reason

LONGEST = 1 << 24
"""Bytes of a first line up to which it is looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class LineFile:
    """Such a file. It must stay as it is while it is used, which is looked at with every row."""

    path: str
    sha256: str
    """Of its bytes."""
    numbers: "array[int]"
    """[N] the line of each row, 1-based; blank lines are no rows."""
    places: "array[int]"
    """[N] the byte at which it begins."""
    state: tuple[int, ...]
    """What tells the file that was looked through from a changed one."""

    def __len__(self) -> int:
        return len(self.numbers)

    def row(self, index: int) -> FileRow:
        """A row, counted from 0.

        Raises:
            InputError: the file has changed, or cannot be read any more.
        """
        try:
            with Path(self.path).open("rb") as file:
                now = _state(file)
                file.seek(self.places[index])
                line = file.readline()
        except OSError as error:
            raise InputError(f"{self.path}: the file cannot be read any more: {reason(error)}") from None
        if now != self.state:
            raise InputError(
                f"{self.path}: the file has changed while rows of it were read. Put back what the run began with and "
                "resume, or begin a new run"
            )
        return line_row(line, self.numbers[index], self.path, last=index + 1 == len(self))


def is_plain_lines(path: str) -> bool:
    """Whether a name is that of a plain file whose first line is a JSON object; there may be no such file.

    A pipe is not opened, as what is read of it is gone.
    """
    if not Path(path).is_file():
        return False
    try:
        with Path(path).open("rb") as file:
            first = file.readline(LONGEST).removeprefix(BOM)
    except (OSError, ValueError):
        return False
    return first.lstrip().startswith(b"{") and not line_row(first, 1, path, last=False).error


def line_file(path: str) -> LineFile:
    """Look a file through: where its rows begin, and the hash of its bytes.

    Raises:
        InputError: it cannot be read.
        Stopped: the user asked to stop.
    """
    digest = hashlib.sha256()
    numbers, places = array("q"), array("q")
    place = 0
    try:
        with Path(path).open("rb") as file:
            state = _state(file)
            for number, line in enumerate(file, 1):
                stop.check()
                digest.update(line)
                if line.strip():
                    numbers.append(number)
                    places.append(place)
                place += len(line)
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read: {reason(error)}") from None
    return LineFile(path, digest.hexdigest(), numbers, places, state)


def _state(file: BinaryIO) -> tuple[int, ...]:
    about = os.fstat(file.fileno())
    return about.st_ino, about.st_size, about.st_mtime_ns
