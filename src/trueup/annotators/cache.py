"""Answers on disk, by content, so that none is paid for twice."""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from trueup.errors import InputError
from trueup.words import reason

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of what is kept and how its key is made; a new one begins a new table in the same file."""
TABLE = f"judgements_{FORMAT}"
PATIENCE = 60.0
"""Seconds to wait for another process that writes."""
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def judgement_key(place: str, request: Mapping[str, Any], labels: tuple[str, str]) -> str:
    """SHA-256 of all that an answer depends on: the endpoint, the whole request, the labels and the format.

    Args:
        place: the endpoint without what could be secret: host, port and path.
        request: with the name of the model, the question as it is asked, temperature and how the answer is read.
        labels: the answers that the request asks for; empty where it asks for text.
    """
    content = json.dumps([FORMAT, place, request, labels], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def place_of(base_url: str) -> str:
    """Host, port and path of an address, without what could be secret.

    Raises:
        ValueError: it is no address.
    """
    parts = urlsplit(base_url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or ''}{port}{parts.path.rstrip('/')}"


class JudgementCache:
    """Answers by key in one SQLite file, which several threads and processes may share.

    Each answer is written before `put` returns, so that a process that is killed loses only what it had not been told;
    a loss of power may cost the last few. A file that is damaged is moved aside, never read and never deleted, and
    that is logged.

    Args:
        path: of the file, which is made where it is absent.

    Raises:
        InputError: there can be no such file; or later, that it cannot be read or written, as the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        """Tells the file that is open from another one that took its name."""
        self._execute("SELECT 1")

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer kept under a key, if there is one and it is whole."""
        for answer, seal in self._execute(f"SELECT answer, seal FROM {TABLE} WHERE key = ?", key):
            if isinstance(answer, str) and seal == _seal(key, answer):
                found: dict[str, Any] = json.loads(answer)
                return found
        return None

    def put(self, key: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer; one that is there under the key is replaced."""
        text = json.dumps(answer, ensure_ascii=True)
        self._execute(f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?, ?)", key, text, _seal(key, text))

    def __len__(self) -> int:
        return int(self._execute(f"SELECT count(*) FROM {TABLE}")[0][0])

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        with suppress(Exception):  # construction may have failed
            self.close()

    def _execute(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        """The rows of a statement; of a new file where the one there turns out to be damaged."""
        with self._lock:
            try:
                try:
                    return self._opened().execute(statement, values).fetchall()
                except sqlite3.DatabaseError as error:
                    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
                        raise
                    self.close()
                    self._move_aside(error)
                    return self._opened().execute(statement, values).fetchall()
            except (OSError, sqlite3.Error) as error:  # a lock that is not free in time is an OSError
                raise InputError(
                    f"{self.path}: judgements cannot be kept there: {reason(error)}. Point the environment variable "
                    "TRUEUP_CACHE to a folder with room, or give annotator.cache false"
                ) from error

    def _opened(self) -> sqlite3.Connection:
        """The connection; each statement on it is a transaction of its own."""
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():  # SQLite does not wait for another process that makes the same file
                self.path.touch()
                self._inode = self.path.stat().st_ino
                self._connection = sqlite3.connect(
                    self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
                )
                try:
                    self._connection.execute("PRAGMA journal_mode = WAL")  # or the file system's own, as safe
                    self._connection.execute("PRAGMA synchronous = NORMAL")  # or a slow disk holds up answers
                    self._connection.execute(
                        f"CREATE TABLE IF NOT EXISTS {TABLE} "
                        "(key TEXT PRIMARY KEY, answer TEXT, seal TEXT) WITHOUT ROWID"
                    )
                except BaseException:
                    self.close()
                    raise
        return self._connection

    def _alone(self) -> FileLock:
        return FileLock(self.path.with_name(self.path.name + ".lock"), timeout=PATIENCE)

    def _move_aside(self, error: sqlite3.DatabaseError) -> None:
        """Rename the file; where another process has done so meanwhile, leave the new one alone."""
        with self._alone():
            if not self.path.exists() or self.path.stat().st_ino != self._inode:
                return
            names = (self.path.with_name(f"{self.path.name}.damaged-{number}") for number in count(1))
            aside = next(name for name in names if not name.exists())
            for ending in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + ending).rename(aside.with_name(aside.name + ending))
        logger.warning(
            f"{self.path} is damaged ({error}) and is now {aside.name}; judgements are kept in a new file, and those "
            "in the old one are asked for again"
        )


def _seal(key: str, answer: str) -> str:
    """So that a byte that changed on the disk, or an answer under another's key, is seen."""
    return hashlib.sha256(f"{key} {answer}".encode()).hexdigest()[:32]
