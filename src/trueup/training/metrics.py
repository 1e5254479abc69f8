"""metrics.jsonl: one line a step, always, and the trackers beside it that may fail without stopping a run."""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from trueup.errors import CheckpointError
from trueup.files import replaced_whole
from trueup.trackers import Tracker
from trueup.words import reason

logger = logging.getLogger(__name__)


class Metrics:
    """Writes metrics to RUN/metrics.jsonl, and to `trackers`, of which one that fails is reported and left out.

    Args:
        path: the file; lines after step `keep_until` are removed, so that a resumed run's file equals that of
            an uninterrupted one.

    Raises:
        CheckpointError: lines cannot be removed.
    """

    def __init__(self, path: Path, *, keep_until: int) -> None:
        self.path = path
        self.trackers: list[Tracker] = []
        self.latest: dict[str, float] = {}
        self._failed = False
        kept = [line for line in read_lines(path) if int(str(line["step"])) <= keep_until]
        self.evaluated = {
            int(str(line["step"])) for line in kept if any(key.startswith("eval_") for key in line)
        }
        for line in kept:
            self.latest |= {key: value for key, value in line.items() if isinstance(value, float)}
        if path.is_file():
            try:
                with replaced_whole(path) as file:
                    file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
            except OSError as error:
                raise CheckpointError(
                    f"{path}: cannot be written: {reason(error)}. Make room, and go on with --resume"
                ) from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a disk that is full costs the line, not the run."""
        try:
            self._append(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            if not self._failed:
                logger.warning(f"{self.path}: metrics are not written: {reason(error)}; training goes on")
            self._failed = True
        if any(key.startswith("eval_") for key in values):
            self.evaluated.add(step)
        for tracker in list(self.trackers):
            try:
                tracker.log(step, values)
            except Exception as error:  # whatever an outside service raises must not stop a run
                self.trackers.remove(tracker)
                logger.warning(f"tracker {tracker.name} failed and is left out from now on: {error}")

    def _append(self, line: str) -> None:
        """Add a whole line or, on a full disk, nothing: half of one would hide those that follow."""
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError:
            with suppress(OSError):
                os.truncate(self.path, before)
            raise

    def close(self) -> None:
        """Let the trackers finish."""
        for tracker in self.trackers:
            try:
                tracker.close()
            except Exception as error:  # as above
                logger.warning(f"tracker {tracker.name} failed while closing: {error}")


def read_lines(path: Path) -> list[dict[str, object]]:
    """The whole lines of a metrics file; a torn last line, from a run that was killed, is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict) or "step" not in line:
            break
        lines.append(line)
    return lines
