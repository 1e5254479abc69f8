"""The rows of a Parquet file. pyarrow is imported when one is met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trueup.errors import InputError
from trueup.feedback.arrow_rows import BATCH, batch_rows, library_words, unreadable
from trueup.feedback.extras import need

if TYPE_CHECKING:
    import pyarrow

    from trueup.feedback.files import LoadedFile
    from trueup.feedback.lines import BadRow, Row

MAGIC = b"PAR1"


def parquet_rows(file: LoadedFile) -> Iterator[Row | BadRow]:
    """The rows of a Parquet file, numbered from 1; nested lists and structs are JSON lists and objects.

    Raises:
        InputError: pyarrow is not installed, the file is torn or damaged, or two columns have one name.
    """
    need("pyarrow", file.path)
    yield from batch_rows(batches(file), file.path)


def batches(file: LoadedFile) -> Iterator[pyarrow.RecordBatch]:
    """The record batches of a Parquet file."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    if not file.data.endswith(MAGIC):
        raise InputError(f"{file.path}: the Parquet file is cut short: copy or download it again")
    try:
        opened = ParquetFile(pyarrow.BufferReader(file.data), page_checksum_verification=True)
        yield from opened.iter_batches(batch_size=BATCH, use_threads=False)
    except unreadable() as error:
        raise InputError(
            f"{file.path}: the Parquet file is damaged ({library_words(error)}); copy or download it again"
        ) from None
