"""Folders that `save_to_disk` of the library `datasets` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trueup.errors import InputError
from trueup.feedback.arrow_rows import BATCH, batch_rows, library_words
from trueup.feedback.extras import need
from trueup.feedback.files import names_in
from trueup.words import listed

if TYPE_CHECKING:
    from trueup.feedback.lines import BadRow, Row


def is_saved(path: Path) -> bool:
    """Whether a folder holds a data set, or several by name, as `save_to_disk` writes them."""
    several = path / "dataset_dict.json"
    return several.is_file() or all((path / name).is_file() for name in ("state.json", "dataset_info.json"))


def refuse_several(path: Path) -> None:
    """Refuse a folder with several data sets: which one to read is the user's choice."""
    if (path / "dataset_dict.json").is_file():
        parts = [name for name in names_in(path) if is_saved(path / name)]
        example = f", as in {path / parts[0]}" if parts else ""
        raise InputError(f"{path}: this folder holds the splits {listed(parts)}; name one of them{example}")


def saved_rows(path: Path) -> Iterator[Row | BadRow]:
    """The rows of a data set in a folder, numbered from 1.

    Raises:
        InputError: `datasets` is not installed, the folder holds several data sets, or it is damaged.
    """
    refuse_several(path)
    need("datasets", str(path))
    import datasets

    try:
        if not json.loads((path / "state.json").read_bytes())["_data_files"]:
            return  # no rows, and so no files, which the library cannot read back
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # the library raises of its own, of Arrow and of the system
        raise InputError(
            f"{path}: the data set in this folder is damaged ({type(error).__name__}: {library_words(error)}); "
            "save or copy it again"
        ) from None
    yield from batch_rows(found.with_format("arrow").iter(BATCH), str(path))
