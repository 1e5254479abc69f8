"""Rows as JSON lines: a file that appears whole or not at all, or the standard output."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from trueup.errors import InputError
from trueup.feedback.canonical import Writable, packed_for
from trueup.files import replaced_whole
from trueup.words import reason

SUFFIXES = (".jsonl", ".jsonl.gz")
STANDARD_OUTPUT = "-"


def check_output(name: str, *, force: bool) -> None:
    """Refuse what cannot or must not be written, before anything is read.

    Raises:
        InputError: the name has another suffix, its folder is absent, or the file is there and `force` is not set.
    """
    if name == STANDARD_OUTPUT:
        return
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name}: this is a folder; name a file in it, e.g. {path / 'feedback.jsonl'}")
    if not name.endswith(SUFFIXES):
        raise InputError(
            f"{name}: only JSON lines are written; give a name that ends in {' or '.join(SUFFIXES)}, or - for the "
            "standard output"
        )
    if not path.parent.is_dir():
        raise InputError(f"{name}: the folder {path.parent} does not exist; make it first")
    if path.exists() and not force:
        raise InputError(f"{name}: the file is there already; give another name, or --force to replace it")


def write_rows(name: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as JSON lines in UTF-8, gzipped where the name ends in `.gz`.

    Raises:
        InputError: the file cannot be written (no such folder, no space).
    """
    if name == STANDARD_OUTPUT:
        sys.stdout.flush()
        write_lines(sys.stdout.buffer, rows)
        sys.stdout.buffer.flush()
        return
    target = Path(name)
    try:
        with replaced_whole(target) as raw, packed_for(target, raw) as out:
            write_lines(out, rows)
    except OSError as error:
        raise InputError(f"{name}: the file cannot be written: {reason(error)}") from None


def write_lines(out: Writable, rows: Iterable[Mapping[str, object]]) -> None:
    """One row on each line."""
    for row in rows:
        out.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n")
