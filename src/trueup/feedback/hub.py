"""Data sets of the Hugging Face hub, read through `datasets`.

The library falls back on whatever copy its cache holds when anything goes wrong. Here the commit is settled first, so
that what is read is what was asked for, or an error says why not.
"""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from trueup.errors import InputError
from trueup.feedback.json_rows import FileRow
from trueup.feedback.tables import BATCH, batch_rows, library_words, need
from trueup.words import did_you_mean, listed

PREFIX = "hub:"
ID = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9_.-]*/)?[A-Za-z0-9_-][A-Za-z0-9_.-]*")
CONFIGS = re.compile(r"(?:BuilderConfig|Config name is missing).*?\[(.*?)\]", re.DOTALL)
"""How the library says which configurations there are."""
KEYS = ("split", "config", "revision")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""How files of feedback are usually called; `.gz` may follow."""
NOT_IDS = (*SUFFIXES, ".gz", ".zst", ".xz", ".bz2", ".zip", ".txt", ".arrow", ".jinja")
"""Names that end so are files."""
DEADLINE = 4.0
"""Seconds the hub has to answer at all."""
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


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
    if name.startswith(PREFIX):
        return True
    bare = name.partition("?")[0]
    owner = bare.partition("/")[0]
    looks_so = ID.fullmatch(bare) is not None and "/" in bare and not bare.lower().endswith(NOT_IDS)
    return looks_so and not Path(name).exists() and not Path(owner).exists()


def hub_name(given: str) -> HubName:
    """What `hub:owner/name?split=test&config=default&revision=main` asks for; the prefix may be left out.

    Raises:
        InputError: it is no id, or a key is unknown, empty or given twice.
    """
    bare, _, query = given.removeprefix(PREFIX).partition("?")
    if not ID.fullmatch(bare):
        raise InputError(f"{given!r}: not the id of a data set; write {PREFIX}OWNER/NAME?split=train")
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
        commit = None if is_offline() else commit_of(name)
        found = downloaded(name, commit)
    except InputError:
        raise
    except Exception as error:  # the two libraries raise of their own, of httpx, of Arrow and of the system
        raise InputError(explained(name, error)) from None
    yield from batch_rows(found.with_format("arrow").iter(BATCH), given)


def is_offline() -> bool:
    """Whether the user has switched the hub off."""
    from huggingface_hub import constants

    also = os.environ.get("HF_DATASETS_OFFLINE", "").upper()
    return constants.HF_HUB_OFFLINE or also in constants.ENV_VARS_TRUE_VALUES


def commit_of(name: HubName) -> str:
    """The commit a name stands for, as the hub says it within `DEADLINE` seconds."""
    from huggingface_hub import HfApi

    answer: list[str | Exception | None] = []

    def ask() -> None:
        try:
            answer.append(HfApi().dataset_info(name.id, revision=name.revision, timeout=DEADLINE).sha)
        except Exception as error:  # the client raises many kinds; whichever it is, the caller gets it
            answer.append(error)

    # A look-up of the host's address knows no time limit, so it is left behind when it takes too long.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(DEADLINE)
    found = answer[0] if answer else TimeoutError()
    if isinstance(found, Exception):
        raise found
    if found is None:
        raise InputError(f"{name.given}: the hub names no commit; give a revision, as in ?revision=main")
    return found


def downloaded(name: HubName, commit: str | None) -> Any:
    """The data set, as a `datasets.Dataset`; at a commit, or without one the copy in the cache."""
    import datasets

    if commit is None and name.revision:
        raise InputError(
            f"{name.given}: the hub is switched off (HF_HUB_OFFLINE), and the copy in the cache may be of another "
            "revision; leave out the revision, or switch the hub on"
        )
    with without_progress_bars():
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


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Without progress bars where there is no terminal, unless the user has set the library's own switch."""
    import datasets

    silenced = not sys.stderr.isatty() and "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ
    if silenced:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if silenced:
            datasets.enable_progress_bars()


def explained(name: HubName, error: Exception) -> str:
    """Why a data set cannot be had, and what to do."""
    from huggingface_hub import errors

    absent = "" if name.given.startswith(PREFIX) else "no such file, and "
    if isinstance(error, errors.GatedRepoError):
        why = f"access to this data set is restricted; ask for it on its page, then {LOG_IN}"
    elif isinstance(error, errors.RepositoryNotFoundError):
        why = f"{absent}the hub has no such data set, or it is private; check the id, or {LOG_IN}"
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"the data set has no revision {name.revision!r}; give a branch, a tag or a commit"
    elif isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        refused = f"the hub refuses it (HTTP status {status}); {LOG_IN}"
        why = refused if status in (401, 403) else unreachable(f"the hub answered with HTTP status {status}")
    elif is_offline():
        why = (
            f"{absent}the hub is switched off (HF_HUB_OFFLINE), and the cache holds no copy of this data set that "
            "can be read; switch the hub on once, or download the files and name them"
        )
    elif is_of_the_network(error):
        why = unreachable(f"{absent}the hub cannot be reached ({type(error).__name__})")
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
            f"the data set cannot be read ({type(cause).__name__}: {without_secrets(library_words(cause))}); "
            "errors name the row where its files are downloaded and given instead"
        )
    return f"{name.given}: {why}"


def is_of_the_network(error: Exception) -> bool:
    """Whether an error says that no answer came; the hub's own library has changed its library for requests."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or "TransportError" in names


def without_secrets(words: str) -> str:
    """The words without the user's token and without a name and password in an address."""
    from huggingface_hub import get_token

    token = get_token()
    hidden = words.replace(token, "***") if token else words
    return re.sub(r"//[^/\s]*@", "//***@", hidden)


def unreachable(why: str) -> str:
    """What to say and to do when the hub does not answer."""
    return f"{why}; check the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 reads the copy an earlier run left"
