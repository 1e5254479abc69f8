"""Data sets of the Hugging Face hub, read through `datasets`.

The library falls back on whatever copy its cache holds when anything goes wrong. Here the commit is settled first, so
that what is read is what was asked for, or an error says why not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from trueup import model_hub
from trueup.errors import InputError
from trueup.feedback.json_rows import FileRow
from trueup.feedback.tables import BATCH, batch_rows, library_words, need
from trueup.words import did_you_mean, listed

CONFIGS = re.compile(r"(?:BuilderConfig|Config name is missing).*?\[(.*?)\]", re.DOTALL)
"""How the library says which configurations there are."""
KEYS = ("split", "config", "revision")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""How files of feedback are usually called; `.gz` may follow."""
NOT_IDS = (*SUFFIXES, ".gz", ".zst", ".xz", ".bz2", ".zip", ".txt", ".arrow", ".jinja")
"""Names that end so are files."""


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
    """What `hub:owner/name?split=test&config=default&revision=main` asks for; the prefix may be left out.

    Raises:
        InputError: it is no id, or a key is unknown, empty or given twice.
    """
    bare, _, query = given.removeprefix(model_hub.PREFIX).partition("?")
    if not model_hub.ID.fullmatch(bare):
        raise InputError(
            f"{given!r}: not the id of a data set; write {model_hub.PREFIX}OWNER/NAME?split=train"
        )
    chosen: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in KEYS:
            hint = did_you_mean(key, KEYS, quoted=True) or f" (known: {', '.join(KEYS)})"
            raise InputError(f"{given!r}: unknown key {key!r}{hint}")
        if key in chosen or not value:
            raise InputError(f"{given!r}: {key} must be given once, with a value")
        chosen[key] = value
    return HubName(given, bare, **chosen)


def hub_rows(given: str) -> Iterator[FileRow]:
    """The rows of a data set of the hub, numbered from 1.

    Raises:
        InputError: `datasets` is not installed; the hub cannot be reached; the data set, its split, configuration or
            revision is not there, may not be read, cannot be read, or would need code of its own.
    """
    need("datasets", given)
    name = hub_name(given)
    try:
        offline = model_hub.is_offline()
        commit = None if offline else model_hub.commit_of("dataset", name.id, name.revision)
        found = downloaded(name, commit)
    except InputError:
        raise
    except Exception as error:  # the two libraries raise of their own, of httpx, of Arrow and of the system
        raise InputError(explained(name, error)) from None
    yield from batch_rows(found.with_format("arrow").iter(BATCH), given)


def downloaded(name: HubName, commit: str | None) -> Any:
    """The data set, as a `datasets.Dataset`; at a commit, or without one the copy in the cache."""
    import datasets

    if commit is None and name.revision:
        raise InputError(
            f"{name.given}: the hub is switched off (HF_HUB_OFFLINE), and the copy in the cache may be of another "
            "revision; leave out the revision, or switch the hub on"
        )
    with model_hub.without_bars(datasets, "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        builder = datasets.load_dataset_builder(f"hf://datasets/{name.id}", name.config, revision=commit)
        refuse_another(name, commit, builder)
        builder.download_and_prepare()
    splits = list(builder.info.splits or {})
    if name.split not in splits:
        raise InputError(
            f"{name.given}: there is no split {name.split!r}; it has {listed(splits)}: give one, as in "
            f"?split={splits[0] if splits else 'train'}"
        )
    return builder.as_dataset(split=name.split)


def refuse_another(name: HubName, commit: str | None, builder: Any) -> None:
    """Refuse what the library took from its cache in the place of what was asked for."""
    if commit is not None and builder.hash != commit:
        raise InputError(
            f"{name.given}: no files with data can be read at its commit {commit[:12]}; the cache holds it at "
            f"{builder.hash[:12]}: give a revision that has data, as in ?revision={builder.hash[:12]}"
        )
    kept = builder.config.name
    if commit is None and name.config is None and kept != "default":
        raise InputError(
            f"{name.given}: the hub is switched off (HF_HUB_OFFLINE), and the cache holds the configuration {kept!r}, "
            f"perhaps of several; give one, as in ?config={kept}"
        )


def explained(name: HubName, error: Exception) -> str:
    """Why a data set cannot be had, and what to do."""
    absent = "" if name.given.startswith(model_hub.PREFIX) else "no such file, and "
    if refused := model_hub.refusal(error, "data set", name.revision, absent):
        why = refused
    elif "scripts are no longer supported" in str(error):
        why = (
            "this data set is read by a Python script of its own, which is never run; the hub may have it as Parquet: "
            "?revision=refs/convert/parquet"
        )
    elif found := CONFIGS.search(str(error)):
        why = f"it has the configurations {found[1]}; give one of them, as in ?config=NAME"
    else:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        why = (
            f"the data set cannot be read ({type(cause).__name__}: {model_hub.without_secrets(library_words(cause))}); "
            "errors name the row where its files are downloaded and given instead"
        )
    return f"{name.given}: {why}"
