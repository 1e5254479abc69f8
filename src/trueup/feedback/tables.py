"""The rows of Arrow tables as plain JSON values: of Parquet, and of what `datasets` reads."""

from __future__ import annotations

import datetime
import decimal
import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from trueup import errors, model_hub, words
from trueup.feedback import json_rows

if TYPE_CHECKING:
    import pyarrow

    Types = dict[str, pyarrow.DataType]

PARQUET = b"PAR1"
BATCH = 1000
NESTED_BATCH = 100
"""Rows of a Parquet file read at a time where texts stand inside of lists or objects."""
BATCH_SIZE = 2**26
CONTENT = "content"
"""The one key of a nested object for which null says something: a turn that only calls a tool."""


def need(package: str, name: str) -> None:
    try:
        found = find_spec(package) is not None
    except ValueError:  # a test or a tool has put None or a stub in its place
        found = False
    if not found:
        needs = f"reading this needs the package {package}, which is not installed"
        raise errors.InputError(f"{name}: {needs}; pip install 'trueup[data]'")


def parquet_batches(file: json_rows.LoadedFile) -> Iterator[pyarrow.RecordBatch]:
    need("pyarrow", file.path)
    from pyarrow.parquet import ParquetFile

    source = file.data
    source.seek(-len(PARQUET), os.SEEK_END)
    if source.read() != PARQUET:
        raise errors.InputError(f"{file.path}: the Parquet file is cut short: copy or download it again")
    left = json_rows.unpacked_limit(file.size)
    try:
        # A file says how large its pages are, but not how often they name a text that its dictionary holds once.
        metadata = ParquetFile(source).metadata
        if declared_size(metadata) > left:
            raise json_rows.unpacks_to_too_much(file.path, file.size)
        columns = [metadata.schema.column(place) for place in range(metadata.num_columns)]
        texts = [column for column in columns if column.logical_type.type == "STRING"]
        # Arrow cannot keep the dictionary of a text inside of lists; of these fewer are read at a time.
        flat = [column.path for column in texts if "." not in column.path]
        opened = ParquetFile(source, page_checksum_verification=True, read_dictionary=flat, pre_buffer=False)
        number = BATCH if len(flat) == len(texts) else NESTED_BATCH
        for batch in opened.iter_batches(batch_size=number, use_threads=False):
            taken = sum(map(text_size, batch.columns))
            left -= taken
            if left < 0:
                raise json_rows.unpacks_to_too_much(file.path, file.size)
            rows = max(1, batch.num_rows * BATCH_SIZE // max(taken, BATCH_SIZE))
            yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))
    except unreadable() as error:
        damaged = f"the Parquet file is damaged ({library_words(error)})"
        raise errors.InputError(f"{file.path}: {damaged}; copy or download it again") from None


def declared_size(metadata: pyarrow.parquet.FileMetaData) -> int:
    """The least bytes that the columns of a Parquet file take once unpacked, a byte a value."""
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    columns = [group.column(place) for group in groups for place in range(group.num_columns)]
    return sum(max(column.total_uncompressed_size, column.num_values) for column in columns)


def text_size(values: pyarrow.Array) -> int:
    """Bytes of the texts in an array, each counted as often as it stands there."""
    from pyarrow import compute, types

    if types.is_dictionary(values.type):
        sizes = compute.binary_length(values.dictionary).take(values.indices)
        return compute.sum(sizes).as_py() or 0
    if types.is_struct(values.type):
        return sum(map(text_size, values.flatten()))
    return text_size(values.flatten()) if types.is_list(values.type) else values.nbytes


def is_saved(path: Path) -> bool:
    several = path / "dataset_dict.json"
    return several.is_file() or all((path / name).is_file() for name in ("state.json", "dataset_info.json"))


def refuse_several(path: Path) -> None:
    if (path / "dataset_dict.json").is_file():
        parts = sorted(part.name for part in path.iterdir() if is_saved(part))
        example = f", as in {path / parts[0]}" if parts else ""
        raise errors.InputError(f"{path}: this folder holds splits {words.listed(parts)}; name one of them{example}")


def saved_rows(path: Path) -> Iterator[json_rows.FileRow]:
    refuse_several(path)
    need("datasets", str(path))
    import datasets

    try:
        if not json.loads((path / "state.json").read_bytes())["_data_files"]:
            return  # no rows, and so no files, which the library cannot read back
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # the library raises of its own, of Arrow and of the system
        damaged = f"the data set in this folder is damaged ({type(error).__name__}: {library_words(error)})"
        raise errors.InputError(f"{path}: {damaged}; save or copy it again") from None
    yield from batch_rows(found.with_format("arrow").iter(BATCH), str(path))


def batch_rows(batches: Iterable[pyarrow.RecordBatch], path: str) -> Iterator[json_rows.FileRow]:
    """The rows of record batches or tables, numbered from 1.
    A null of a column is null; within a column, where Arrow gives every object the same keys, it is a key that was
    not there. Dates and times become ISO text; a value that JSON does not have makes the row a bad one."""
    number = 0
    for batch in batches:
        names = batch.schema.names
        if problem := json_rows.too_many_keys(len(names), "the table"):
            raise errors.InputError(f"{path}: {problem}")
        if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
            raise errors.InputError(f"{path}: the column {words.shortened(repeated[0])} stands twice; rename one")
        types = dict(zip(names, batch.schema.types, strict=True))
        for values in row_values(batch):
            number += 1
            yield one_row(values, types, number, path)


def row_values(batch: Any) -> list[dict[str, Any] | Exception]:
    try:
        return list(batch.to_pylist())
    except unreadable() as error:
        if batch.num_rows == 1:
            return [error]
        return [one for index in range(batch.num_rows) for one in row_values(batch.slice(index, 1))]


def unreadable() -> tuple[type[Exception], ...]:
    import pyarrow

    return (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError)


def one_row(values: dict[str, Any] | Exception, types: Types, number: int, path: str) -> json_rows.FileRow:
    try:
        if not isinstance(values, Exception):
            row = {name: plain(values[name], kind) for name, kind in types.items()}
            return json_rows.checked(row, number, path)
        problem = f"the row cannot be read: {library_words(values)}"
    except json.JSONDecodeError as error:
        problem = f"a column holds JSON that is not sound: {json_rows.what_is_wrong(error, 'value')}"
    return json_rows.FileRow(number, error=f"{path}:{number}: {problem}")


def plain(value: Any, kind: pyarrow.DataType) -> object:
    """A value of an Arrow type as JSON has it; what JSON does not have is left as it is."""
    from pyarrow import types

    if value is None:
        return None
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain(value, kind.value_type)
    if types.is_struct(kind):
        inner = {field.name: plain(value[field.name], field.type) for field in kind}
        return {key: one for key, one in inner.items() if one is not None or key == CONTENT}
    if types.is_map(kind):
        return json_rows.with_repeated([(str(key), plain(one, kind.item_type)) for key, one in value])
    if getattr(kind, "extension_name", "") == "arrow.json":
        return json_rows.parsed(value)
    if isinstance(value, list):
        inner_kind = getattr(kind, "value_type", None) or kind.storage_type.value_type
        return [plain(one, inner_kind) for one in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return str(value) if isinstance(value, uuid.UUID) else value


def library_words(error: Exception) -> str:
    return words.printable(words.one_line(error), 160)


CONFIGS = re.compile(r"(?:BuilderConfig|Config name is missing).*?\[(.*?)\]", re.DOTALL)
"""How the library says which configurations there are."""
KEYS = ("split", "config", "revision")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
NOT_IDS = (*SUFFIXES, ".gz", ".zst", ".xz", ".bz2", ".zip", ".txt", ".arrow", ".jinja")


@dataclass(frozen=True, slots=True)
class HubName:
    """What a name asks for: `HubName("hub:a/b?split=test", "a/b", split="test")`."""

    given: str
    id: str
    split: str = "train"
    config: str | None = None
    revision: str | None = None


def is_hub(name: str) -> bool:
    """Whether a name stands for a data set of the hub: `hub:owner/name`, or `owner/name` that is not a path here."""
    if name.startswith(model_hub.PREFIX):
        return True
    bare = name.partition("?")[0]
    owner = bare.partition("/")[0]
    looks_so = model_hub.ID.fullmatch(bare) is not None and "/" in bare and not bare.lower().endswith(NOT_IDS)
    return looks_so and not Path(name).exists() and not Path(owner).exists()


def hub_name(given: str) -> HubName:
    bare, _, query = given.removeprefix(model_hub.PREFIX).partition("?")
    if not model_hub.ID.fullmatch(bare):
        example = f"{model_hub.PREFIX}OWNER/NAME?split=train"
        raise errors.InputError(f"{given!r}: not the id of a data set; write {example}")
    chosen: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in KEYS:
            hint = words.did_you_mean(key, KEYS, quoted=True) or f" (known: {', '.join(KEYS)})"
            raise errors.InputError(f"{given!r}: unknown key {key!r}{hint}")
        if key in chosen or not value:
            raise errors.InputError(f"{given!r}: {key} must be given once, with a value")
        chosen[key] = value
    return HubName(given, bare, **chosen)


def hub_rows(given: str) -> Iterator[json_rows.FileRow]:
    need("datasets", given)
    name = hub_name(given)
    try:
        online = not model_hub.is_offline()
        found = downloaded(name, model_hub.commit_of("dataset", name.id, name.revision) if online else None)
    except errors.InputError:
        raise
    except Exception as error:  # the two libraries raise of their own, of httpx, of Arrow and of the system
        raise errors.InputError(explained(name, error)) from None
    yield from batch_rows(found.with_format("arrow").iter(BATCH), given)


def downloaded(name: HubName, commit: str | None) -> Any:
    import datasets

    if commit is None and name.revision:
        offline = "the hub is switched off (HF_HUB_OFFLINE), and the cache may hold another revision"
        raise errors.InputError(f"{name.given}: {offline}; leave out the revision, or switch the hub on")
    with model_hub.without_bars(datasets, "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        builder = datasets.load_dataset_builder(f"hf://datasets/{name.id}", name.config, revision=commit)
        refuse_another(name, commit, builder)
        builder.download_and_prepare()
    splits = list(builder.info.splits or {})
    if name.split not in splits:
        there = f"there is no split {name.split!r}; it has {words.listed(splits)}"
        raise errors.InputError(f"{name.given}: {there}: give one, as in ?split={(splits or ['train'])[0]}")
    return builder.as_dataset(split=name.split)


def refuse_another(name: HubName, commit: str | None, builder: Any) -> None:
    """Refuse what the library took from its cache in the place of what was asked for."""
    if commit is not None and builder.hash != commit:
        there = f"there are no data at its commit {commit[:12]}; the cache holds it at {builder.hash[:12]}"
        raise errors.InputError(f"{name.given}: {there}: give one that has data, as in ?revision={builder.hash[:12]}")
    if commit is not None:
        return
    folders = Path(builder.cache_dir).parent.iterdir()
    versions = sorted(one.name[:12] for one in folders if one.is_dir() and not one.suffix)
    if len(versions) > 1:
        several = f"the hub is switched off (HF_HUB_OFFLINE), and the cache holds it at {words.listed(versions)}"
        raise errors.InputError(f"{name.given}: {several}; switch the hub on, or give the files themselves")
    kept = builder.config.name
    if name.config is None and kept != "default":
        offline = f"the hub is switched off (HF_HUB_OFFLINE), and the cache holds the configuration {kept!r}"
        raise errors.InputError(f"{name.given}: {offline}, perhaps of several; give one, as in ?config={kept}")


def explained(name: HubName, error: Exception) -> str:
    absent = "" if name.given.startswith(model_hub.PREFIX) else "no such file, and "
    if refused := model_hub.refusal(error, "data set", name.revision, absent):
        why = refused
    elif "scripts are no longer supported" in str(error):
        script = "this data set is read by a Python script of its own, which is never run"
        why = f"{script}; the hub may have it as Parquet: ?revision=refs/convert/parquet"
    elif found := CONFIGS.search(str(error)):
        why = f"it has the configurations {found[1]}; give one of them, as in ?config=NAME"
    else:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        why = (
            f"the data set cannot be read ({type(cause).__name__}: {model_hub.without_secrets(library_words(cause))}); "
            "errors name the row where its files are downloaded and given instead"
        )
    return f"{name.given}: {why}"
