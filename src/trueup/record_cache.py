"""Records on disk, by content, so that nothing is paid for or computed twice."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain, count, islice
from pathlib import Path
from threading import RLock
from typing import Any

from filelock import FileLock

from trueup import errors, words

PATIENCE = 60.0
AT_ONCE = 500  # records written together; SQLite does not take any number of values
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class RecordCache:
    """JSON objects by key in one SQLite file, which several threads and processes may share.
    Each record is written before `put` returns; a loss of power may cost the last few. A damaged file is moved aside,
    never read or deleted. `noun` and `without` are for messages; beyond `most` bytes the oldest are deleted."""

    def __init__(self, path: Path, *, table: str, noun: str, without: str, most: int | None = None) -> None:
        self.path, self.table, self.noun, self.without, self.most = path, table, noun, without, most
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0  # tells the file that is open from another one that took its name
        self._execute("SELECT 1")

    def get(self, key: str) -> dict[str, Any] | None:
        """The record kept under a key, if there is one and it is whole."""
        for text, seal in self._execute(f"SELECT answer, seal FROM {self.table} WHERE key = ?", (key,)):
            if isinstance(text, str) and seal == _seal(key, text):
                found: dict[str, Any] = json.loads(text)
                return found
        return None

    def put(self, key: str, record: Mapping[str, Any]) -> None:
        self.put_all({key: record})

    def put_all(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep several records, `AT_ONCE` in a transaction."""
        texts = ((key, json.dumps(record, ensure_ascii=True)) for key, record in records.items())
        rows = iter([(key, text, _seal(key, text)) for key, text in texts])
        while some := list(islice(rows, AT_ONCE)):
            values = ", ".join(["(?, ?, ?)"] * len(some))
            self._execute(f"INSERT OR REPLACE INTO {self.table} VALUES {values}", list(chain(*some)))

            self._prune()

    def _prune(self) -> None:
        """Delete the oldest sixteenth where the records take more than they may."""
        if self.most is None:
            return
        numbers = ("page_count", "freelist_count", "page_size")
        pages, free, size = (self._execute(f"PRAGMA {about}")[0][0] for about in numbers)
        if (pages - free) * size > self.most:
            ends = (f"SELECT {end}(rowid) FROM {self.table}" for end in ("min", "max"))
            first, last = (self._execute(one)[0][0] for one in ends)
            self._execute(f"DELETE FROM {self.table} WHERE rowid <= {first + (last - first) // 16}")

    def __len__(self) -> int:
        return int(self._execute(f"SELECT count(*) FROM {self.table}")[0][0])

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        with suppress(Exception):  # construction may have failed
            self.close()

    def _execute(self, statement: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
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
                raise errors.InputError(
                    f"{self.path}: {self.noun} cannot be kept there: {words.reason(error)}. Point the environment "
                    f"variable TRUEUP_CACHE to a folder with room, or {self.without}"
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
                    # WAL, or the file system's own, as safe; NORMAL, or a slow disk holds up its users.
                    for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
                        self._connection.execute(f"PRAGMA {pragma}")
                    columns = f"{self.table} (key TEXT PRIMARY KEY, answer TEXT, seal TEXT)"
                    kind = " WITHOUT ROWID" if self.most is None else ""
                    self._connection.execute(f"CREATE TABLE IF NOT EXISTS {columns}{kind}")
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
        words.logger.warning(
            f"{self.path} is damaged ({error}) and is now {aside.name}; {self.noun} are kept in a new file, and those "
            "in the old one are made again"
        )


def _seal(key: str, text: str) -> str:
    """So that a byte that changed on the disk, or a record under another's key, is seen."""
    return hashlib.sha256(f"{key} {text}".encode()).hexdigest()[:32]
