"""Where rows of feedback come from: files of JSON, CSV or Parquet, folders, data sets of the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trueup.errors import InputError
from trueup.feedback.arrow_rows import content_line
from trueup.feedback.csv_rows import csv_rows, is_csv
from trueup.feedback.extras import need
from trueup.feedback.files import LoadedFile, load
from trueup.feedback.hub import hub_name, hub_rows, is_hub
from trueup.feedback.lines import BadRow, Row, json_rows
from trueup.feedback.parquet import MAGIC, parquet_rows
from trueup.feedback.saved import is_saved, refuse_several, saved_rows


@dataclass(frozen=True, slots=True)
class Opened:
    """A source of feedback that has been found, and its rows."""

    name: str
    """As it was given."""
    rows: Iterator[Row | BadRow]
    sha256: Callable[[], str]
    """Hash of the bytes of a file, or of the content of all rows; asked for when these have been read."""


def opened(path: str | Path) -> Opened:
    """Find a source of feedback: a file, a folder written by `save_to_disk`, or a data set of the hub.

    Args:
        path: as text it may also name a data set of the hub, see `is_hub`.

    Raises:
        InputError: it is absent, unreadable, of another format, or needs a package that is not installed.
    """
    if isinstance(path, str) and is_hub(path):
        return hashed(path, hub_rows(path))
    if is_saved(Path(path)):
        return hashed(str(path), saved_rows(Path(path)))
    file = load(path)
    return Opened(file.path, rows(file), lambda: file.sha256)


def hashed(name: str, found: Iterator[Row | BadRow]) -> Opened:
    """A source that has no bytes of its own, with the hash of the content of its rows."""
    digest = hashlib.sha256()

    def counted() -> Iterator[Row | BadRow]:
        for row in found:
            digest.update(content_line(row))
            yield row

    return Opened(name, some(counted(), name), digest.hexdigest)


def rows(file: LoadedFile) -> Iterator[Row | BadRow]:
    """The rows of a file, in order. Its content tells its format, and for CSV its name as well.

    Raises:
        InputError: the file holds no rows, or its syntax is broken so that no more can be read.
    """
    if file.data.startswith(MAGIC):
        return some(parquet_rows(file), file.path)
    if is_csv(file):
        return some(csv_rows(file), file.path, " below its header")
    return some(json_rows(file), file.path)


def some(found: Iterator[Row | BadRow], name: str, where: str = "") -> Iterator[Row | BadRow]:
    """The rows; none at all is an error."""
    empty = True
    for row in found:
        empty = False
        yield row
    if empty:
        raise InputError(f"{name}: the file holds no rows{where}")


def refuse_unreadable(name: str) -> None:
    """Refuse, without reading it, what cannot be read: a hub's name or a folder that is not in order.

    Raises:
        InputError: see `opened`; a file is not looked at.
    """
    if is_hub(name):
        hub_name(name)
        need("datasets", name)
    elif is_saved(Path(name)):
        refuse_several(Path(name))
        need("datasets", name)
