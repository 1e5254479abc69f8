"""Models of the Hugging Face hub, at a commit, in the cache of its library; and how the hub is asked.
The library falls back on whatever copy its cache holds when anything goes wrong. Here the hub is asked first, so that
what is read is what was asked for, or it is said that it is a copy, or an error says why there is none."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from trueup.errors import InputError
from trueup.words import logger, one_line

PREFIX = "hub:"
ID = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9_.-]{0,95}/)?[A-Za-z0-9_-][A-Za-z0-9_.-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
FILES = (
    *("config.json", "generation_config.json", "adapter_config.json", "condition.json", "reward.json"),
    *("tokenizer*.json", "tokenizer*.model", "special_tokens_map.json", "added_tokens.json", "*.tiktoken"),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece*.model", "tekken.json"),
    "*.jinja",
)
"""Forms of the names of files that are taken beside the weights; nothing else is, neither code nor pickles."""
LEFT = ("*/*", "consolidated*")
DEADLINE = 4.0
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def is_hub_model(name: str) -> bool:
    """Whether a name is a model of the hub: `OWNER/NAME[@REVISION]` that is no path here, or `hub:` before it."""
    if name.startswith(PREFIX):
        return True
    id, _, revision = name.partition("@")
    if "/" not in id or not ID.fullmatch(id) or Path(name).exists():
        return False
    return bool(COMMIT.fullmatch(revision)) or not Path(id.partition("/")[0]).exists()


def fetched(name: str, *, weights: bool = True, again: bool = True) -> tuple[str, str]:
    """A model of the hub: its name with its commit, and its folder in the cache, where its files are put.
    Without `weights`, what encodes text alone. `again`: the hub is asked for a branch or tag that the cache holds."""
    from huggingface_hub import snapshot_download, utils

    id, _, given = name.removeprefix(PREFIX).partition("@")
    if not ID.fullmatch(id) or ("@" in name and not given):
        raise InputError(f"{name!r}: not the id of a model; write OWNER/NAME or OWNER/NAME@REVISION")
    revision, forms = given or None, [*FILES, *(WEIGHTS if weights else ())]
    take = partial(snapshot_download, id, allow_patterns=forms, ignore_patterns=[*LEFT])
    try:
        if COMMIT.fullmatch(given) or not again:
            with suppress(OSError, ValueError):
                kept = Path(take(revision=revision, local_files_only=True))
                if any(kept.glob("*.safetensors" if weights else "*config.json")):
                    return f"{id}@{kept.name}", str(kept)
        commit = commit_of("model", id, revision)
        with without_bars(utils, "HF_HUB_DISABLE_PROGRESS_BARS"):
            folder = Path(take(revision=revision))
            folder = folder if folder.name == commit else Path(take(revision=commit))
    except Exception as error:  # the library raises of its own, of its client and of the system
        said = f"{type(error).__name__}: {without_secrets(one_line(error))}"
        why = refusal(error, "model", revision, "" if name.startswith(PREFIX) else "no such folder, and ")
        why = why or f"the model cannot be downloaded ({said})"
        try:
            if not is_of_the_network(error):
                raise InputError(f"{name}: {why}")
            folder = Path(take(revision=revision, local_files_only=True))
        except (OSError, ValueError):
            raise InputError(f"{name}: {why}") from None
        logger.warning(f"{name}: the hub is switched off or out of reach, and the copy in the cache is used")
    logger.info(f"{name}: at commit {folder.name}")
    return f"{id}@{folder.name}", str(folder)


def is_taken(file: str) -> bool:
    return any(fnmatchcase(file, form) for form in (*FILES, *WEIGHTS))


def origin_of(folder: str | Path) -> tuple[str, str] | None:
    """Id and commit of a model whose folder is in the cache; None of any other folder."""
    path = Path(folder).absolute()
    repository = path.parent.parent.name
    if path.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/"), path.name


def named(folder: str | Path) -> str:
    """What a model's folder is called in records: `OWNER/NAME@COMMIT` of one of the hub, otherwise the path."""
    return "@".join(origin_of(folder) or [str(folder)])


def is_offline() -> bool:
    from huggingface_hub import constants

    also = os.environ.get("HF_DATASETS_OFFLINE", "").upper()
    return constants.HF_HUB_OFFLINE or also in constants.ENV_VARS_TRUE_VALUES


def commit_of(kind: str, id: str, revision: str | None) -> str:
    """The commit that a revision stands for, as the hub says it within `DEADLINE` seconds."""
    from huggingface_hub import HfApi

    answer: list[str | Exception | None] = []

    def ask() -> None:
        try:
            answer.append(HfApi().repo_info(id, revision=revision, repo_type=kind, timeout=DEADLINE).sha)
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
        raise InputError(f"{id}: the hub names no commit; give a revision, such as main")
    return found


@contextmanager
def without_bars(library: Any, switch: str) -> Iterator[None]:
    """Without a library's progress bars where there is no terminal, unless the user has set its own switch."""
    silenced = not sys.stderr.isatty() and switch not in os.environ
    if silenced:
        library.disable_progress_bars()
    try:
        yield
    finally:
        if silenced:
            library.enable_progress_bars()


def refusal(error: Exception, what: str, revision: str | None, absent: str) -> str | None:
    """Why the hub does not give something, and what to do; None where it is not the hub that does not."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"access to this {what} is restricted; ask for it on its page, then {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{absent}the hub has no such {what}, or it is private; check the id, or {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the {what} has no revision {revision!r}; give a branch, a tag or a commit"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        refused = f"the hub refuses it (HTTP status {status}); {LOG_IN}"
        return refused if status in (401, 403) else unreachable(f"the hub answered with HTTP status {status}")
    if is_offline():
        return (
            f"{absent}the hub is switched off (HF_HUB_OFFLINE), and the cache holds no copy of this {what} that "
            "can be read; switch the hub on once, or download the files and name them"
        )
    if is_of_the_network(error):
        return unreachable(f"{absent}the hub cannot be reached ({type(error).__name__})")
    return None


def is_of_the_network(error: Exception) -> bool:
    """Whether an error says that no answer came, or none of use; the hub's library has changed that for requests."""
    names = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return isinstance(error, ConnectionError | TimeoutError) or "TransportError" in names or status >= 500


def without_secrets(words: str) -> str:
    """The words without the user's token and without a name and password in an address."""
    from huggingface_hub import get_token

    token = get_token()
    hidden = words.replace(token, "***") if token else words
    return re.sub(r"//[^/\s]*@", "//***@", hidden)


def unreachable(why: str) -> str:
    return f"{why}; check the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 reads the copy an earlier run left"
