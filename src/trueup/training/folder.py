"""A run is a folder: one process at a time, files that are whole or absent, and what it was begun with.

Beside its settings run.yaml holds versions and fingerprints, from which a run that goes on does not depart.
"""

import json
import logging
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from trueup import __version__
from trueup.config.resolve import read_record
from trueup.errors import CheckpointError, InputError
from trueup.feedback.condition import Condition
from trueup.files import replaced_file
from trueup.metrics import WANDB
from trueup.sources.log import EXAMPLES, ROUNDS
from trueup.words import reason

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


class RunFolder:
    """Where things lie in a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "run.yaml"
        """Resolved settings, versions, fingerprints."""
        self.metrics = path / "metrics.jsonl"
        """One line a step."""
        self.log = path / "run.log"
        """What was said, over all sittings."""
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        """The finished model or adapter."""
        self.status = path / "status.json"
        """`running`, `stopped`, `done` or `failed`, and the step."""
        self.calibration = path / "calibration.json"
        """Of a reward model, how right and how sure its scores are of held-out pairs."""
        self.usage = path / "spent.json"
        """What was used of an annotator that has a budget, over all sittings."""

    @property
    def gathered(self) -> bool:
        """Whether there is feedback that was gathered by the run, or paid for."""
        return any((self.path / name).exists() for name in (EXAMPLES, ROUNDS, self.usage.name))

    def lock(self) -> FileLock:
        """Take the folder for this process; the system gives it back when the process ends, however it ends.

        Raises:
            InputError: another process has it, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            lock.acquire(timeout=0)
            for left in self.path.glob(".*.tmp"):  # by a process that was killed while it wrote
                left.unlink()
        except Timeout as error:
            raise InputError(
                f"{self.path}: another process is training in this folder. Wait for it, or give another --output"
            ) from error
        except OSError as error:
            raise InputError(
                f"{self.path}: the run folder cannot be written: {reason(error)}. Give another --output"
            ) from error
        return lock

    def write_settings(self, content: Mapping[str, Any]) -> None:
        """Write run.yaml whole."""
        self._write(self.settings, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))

    def write_status(self, state: str, step: int, total: int) -> None:
        """Write status.json whole."""
        self._write(self.status, json.dumps({"state": state, "step": step, "steps": total}) + "\n")

    def write_calibration(self, content: Mapping[str, Any]) -> None:
        """Write calibration.json whole."""
        self._write(self.calibration, json.dumps(content, indent=2) + "\n")

    def read_status(self) -> dict[str, Any]:
        """The last status; empty where there is none."""
        try:
            content = json.loads(self.status.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def check_fresh(self, *, gathers: bool = False) -> None:
        """Refuse a folder with checkpoints but no run: a new one, once stopped, would go on from them.

        Args:
            gathers: feedback is gathered by the run, so that it must find none either.

        Raises:
            InputError: there are some.
        """
        if gathers and self.gathered:
            raise InputError(
                f"{self.path} holds what another run gathered ({EXAMPLES}, {ROUNDS} or {self.usage.name}), but no "
                "run.yaml. Give another --output, or move these files away"
            )
        if self.checkpoints.is_dir() and any(self.checkpoints.iterdir()):
            raise InputError(
                f"{self.path} holds checkpoints of another run, whose run.yaml is gone. Give another --output, or "
                f"remove {self.checkpoints}"
            )

    def discard(self) -> None:
        """Undo what a run wrote that has nothing worth going on from; nothing that was gathered is touched."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for file in (self.settings, self.status, self.metrics, self.path / WANDB):
            file.unlink(missing_ok=True)

    def discard_if_empty(self) -> None:
        """Remove the folder of a run that failed before it wrote anything but what it said."""
        if self.path.is_dir() and not self.settings.exists():
            self.log.unlink(missing_ok=True)
            if {entry.name for entry in self.path.iterdir()} <= {".lock"}:
                (self.path / ".lock").unlink(missing_ok=True)
                self.path.rmdir()

    def _write(self, file: Path, text: str) -> None:
        try:
            with replaced_file(file) as opened:
                opened.write(text.encode())
        except OSError as error:
            raise CheckpointError(
                f"{file}: cannot be written: {reason(error)}. Make room, and go on with --resume if the run "
                "has begun"
            ) from error


def record_of(identity: str, fingerprints: Mapping[str, str], condition: Condition | None) -> dict[str, Any]:
    """What run.yaml holds beside the settings; `tokens_identity` joins it once the tokens are known.

    Args:
        identity: of the model.
        fingerprints: of the data.
        condition: what the model is asked with.
    """
    return {
        "versions": {
            "trueup": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "data_fingerprints": dict(fingerprints),
        "model_identity": identity,
        "asked_with": None if condition is None else asdict(condition),
    }


def condition_as_begun(folder: Path, now: Condition | None) -> Condition | None:
    """What the model was asked with when the run began; `trueup condition` may have changed it since."""
    record = read_record(folder)
    if "asked_with" not in record:
        return now
    begun = record["asked_with"]
    return None if begun is None else Condition(**begun)


def refuse_changed(folder: Path, model: str, record: Mapping[str, Any]) -> None:
    """Refuse to go on with another model, other data or other tokens than the run began with.

    Args:
        folder: of the run.
        model: its name in messages.
        record: as it is now.

    Raises:
        InputError: one of these has changed.
    """
    before = read_record(folder)
    changed = [
        f"{name} (was {str(old)[:16]}, is {str(record['data_fingerprints'].get(name))[:16]})"
        for name, old in before.get("data_fingerprints", {}).items()
        if record["data_fingerprints"].get(name) != old
    ]
    tokens, now = before.get("tokens_identity"), record.get("tokens_identity")
    if not changed and None not in (tokens, now) and tokens != now:  # other data are other tokens anyway
        changed.append(
            f"the tokens of the data, so the tokenizer or the chat template (was {tokens}, is {now})"
        )
    if before.get("model_identity") != record["model_identity"]:
        changed.append(f"{model} (was {before.get('model_identity')}, is {record['model_identity']})")
    if changed:
        raise InputError(
            f"{folder}: the run cannot go on as it began, because these have changed since: {'; '.join(changed)}. Put "
            "them back, or begin a new run"
        )


def warn_of_versions(folder: Path, record: Mapping[str, Any]) -> None:
    """Say which packages are others than the run began with."""
    versions = record["versions"]
    for name, was in read_record(folder).get("versions", {}).items():
        if was != versions.get(name):
            logger.warning(
                f"the run began with {name} {was} and goes on with {versions.get(name)}: not bit for bit the same"
            )
