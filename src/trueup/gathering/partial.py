"""What a command has done so far, in a file beside its output, so that a process that is killed loses little.

    {"of": "trueup sample", "settings": {"seed": "5feceb66ffc86f38", ...}}
    {"part": "sample 0 0", "value": [...]}
    {"part": "judge 0", "value": {...}}

Each part is one line, on disk before the next piece of work begins. A second call with the same settings goes on from
it. Settings are kept as hashes: enough to tell which one differs, and nothing of an address or a path.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trueup.errors import InputError
from trueup.words import listed, reason

SUFFIX = ".part"


class Partial:
    """The finished parts of a command's work, by name.

    Args:
        output: the file that the command writes in the end; this one is beside it, with `.part` after its name.
        of: the command.
        settings: name -> whatever the work depends on, JSON-ready.

    Raises:
        InputError: another process is at it, the file is of other settings, or it cannot be written.
    """

    def __init__(self, output: Path, of: str, settings: Mapping[str, object]) -> None:
        self.path = output.with_name(output.name + SUFFIX)
        self.parts: dict[str, Any] = {}
        self.of = of
        self.settings = {name: digest(value) for name, value in settings.items()}
        self._lock = FileLock(output.with_name(f".{output.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"{output}: another process is at work on it. Wait for it, or give another output"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._begin()
        except BaseException:
            self._release()
            raise

    @property
    def begun(self) -> bool:
        """Whether anything is done already."""
        return bool(self.parts)

    def keep(self, name: str, value: Any) -> None:
        """Keep a finished part, JSON-ready; from here on it is as it will be read by another process.

        Raises:
            InputError: it cannot be written.
        """
        line = json.dumps({"part": name, "value": value}, ensure_ascii=True, allow_nan=False)
        self._append(line)
        self.parts[name] = json.loads(line)["value"]

    def finish(self) -> None:
        """The output is written: nothing is kept any more."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process go on; nothing is left behind where nothing was done."""
        if not self.parts:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        with suppress(OSError):  # while it is held, so that no other process can have taken it
            Path(self._lock.lock_file).unlink()
        self._lock.release()

    def _begin(self) -> None:
        header = json.dumps({"of": self.of, "settings": self.settings})
        lines = self._whole_lines(header) if self.path.exists() else []
        if not lines:
            self._append(header)
            return
        self._compare(_read(lines[0]))
        for number, line in enumerate(lines[1:], start=2):
            row = _read(line)
            if not isinstance(row, dict) or row.keys() != {"part", "value"}:
                raise InputError(
                    f"{self.path}:{number}: what was done so far is damaged there. Delete that line and all after it, "
                    "which are done again, or the file"
                )
            self.parts[str(row["part"])] = row["value"]

    def _compare(self, header: Any) -> None:
        theirs = header.get("settings") if isinstance(header, dict) else None
        if not isinstance(theirs, dict) or header.get("of") != self.of:
            raise self._foreign()
        both = {**self.settings, **theirs}
        different = [name for name in both if self.settings.get(name) != theirs.get(name)]
        if different:
            raise InputError(
                f"{self.path} was begun with other settings ({listed(different)}). Give those again to go on with it, "
                "delete it to begin anew, or give another output"
            )

    def _whole_lines(self, header: str) -> list[str]:
        """The lines that end; a torn last one, as a process that was killed may leave it, is cut off."""
        try:
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if not whole and not header.encode("ascii").startswith(data):
                raise self._foreign()
            if whole < len(data):
                os.truncate(self.path, whole)
        except OSError as error:
            raise self._unwritable(error) from None
        return data[:whole].decode("utf-8", errors="replace").splitlines()

    def _append(self, line: str) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(line.encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from None

    def _foreign(self) -> InputError:
        return InputError(
            f"{self.path} is not what {self.of} keeps its work in. Delete it, or give another output"
        )

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"{self.path}: the work done so far cannot be kept there: {reason(error)}. Make room, or give "
            "another output"
        )


def digest(value: object) -> str:
    """A short hash of a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _read(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
