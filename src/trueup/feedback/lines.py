"""A source whose rows are read when they are asked for; only where they begin is in memory.

Of JSON lines the bytes themselves are looked up, unpacked where they are gzipped; the rows of any other source are
written to a file first, one after the other.
"""

import json
from array import array
from dataclasses import dataclass

from trueup import stop
from trueup.errors import InputError
from trueup.feedback import containers
from trueup.feedback.columns import Table
from trueup.feedback.json_rows import FileRow, LoadedFile, is_lines, line_row
from trueup.words import reason


@dataclass(frozen=True, slots=True, eq=False)
class LineFile:
    """Such a source. A file of JSON lines must stay as it is while it is used, which is looked at with every row."""

    path: str
    sha256: str
    """See `Opened`."""
    numbers: "array[int]"
    """[N] the number of each row; blank lines are no rows."""
    places: "array[int]"
    """[N] the byte at which it begins."""
    file: LoadedFile
    """Where that is."""
    written: int
    """Bytes of rows that were written to it; 0 where it holds the source's own lines."""

    def __len__(self) -> int:
        return len(self.numbers)

    def row(self, index: int) -> FileRow:
        """A row, counted from 0.

        Raises:
            InputError: the file has changed, or cannot be read any more.
        """
        try:
            self.file.check()
            self.file.data.seek(self.places[index])
            line = self.file.data.readline()
        except OSError as error:
            raise InputError(f"{self.path}: the file cannot be read any more: {reason(error)}") from None
        if self.written:
            value, problem, empty = json.loads(line)
            return FileRow(self.numbers[index], value, problem, tuple(empty))
        return line_row(line, self.numbers[index], self.path, last=index + 1 == len(self))


def line_file(path: str, table: Table) -> LineFile:
    """Look a source through: where its rows begin, and the hash of its content.

    Args:
        table: how its columns are called; rows have the names that they have there.

    Raises:
        InputError: it cannot be read, or there is no room for its rows.
        Stopped: the user asked to stop.
    """
    source = containers.as_it_stands(path, table)
    numbers, places = array("q"), array("q")
    if source.file is not None and is_lines(source.file):
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
    with containers.spill(source.name) as data:
        file, place = LoadedFile(source.name, "", 0, data), 0
        for row in source.rows:
            stop.check()
            numbers.append(row.number)
            places.append(place)
            place += data.write(json.dumps([row.value, row.error, row.empty]).encode() + b"\n")
        data.flush()
    return LineFile(source.name, source.sha256(), numbers, places, file, place)
