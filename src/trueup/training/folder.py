"""A run is a folder: one process at a time, files that are whole or absent, and what it was begun with.

Beside its settings run.yaml holds versions and fingerprints, from which a run that goes on does not depart.
"""

import hashlib
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
from trueup.config.layers import flatten
from trueup.config.resolve import Resolved, dump, read_record
from trueup.errors import CheckpointError, InputError
from trueup.feedback.condition import Condition
from trueup.files import content_identity, replaced_file
from trueup.metrics import WANDB
from trueup.settings.run_settings import RESUME_MAY_CHANGE, RunSettings
from trueup.sources.log import EXAMPLES, ROUNDS
from trueup.words import reason, shortened

logger = logging.getLogger(__name__)

KINDS = {
    "model_identity": "the weights or the configuration of the model",
    "tokenizer_identity": "the tokenizer or its chat template",
    "end_ids": "the tokens that end a response",
    "tokens_identity": "the tokens of the data",
    "asked_with": "what the model is asked with",
}
"""Kinds of what is recorded of a run -> their names in messages."""
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


class RunFolder:
    """Where things lie in a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "run.yaml"
        """Resolved settings, versions, fingerprints."""
        self.sealed = path / "sealed.json"
        """What decides the result, by name, as it was when the run began."""
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
            # Left by a process that was killed while it wrote.
            for file in self.path.glob(".*.tmp"):
                file.unlink()
            for part in (*self.path.glob(".*.part"), *self.checkpoints.glob(".*.part")):
                shutil.rmtree(part)
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

    def write_sealed(self, content: Mapping[str, Any]) -> None:
        """Write sealed.json whole."""
        self._write(self.sealed, json.dumps(content, indent=1) + "\n")

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
        for file in (self.settings, self.sealed, self.status, self.metrics, self.path / WANDB):
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


def record_of(identities: Mapping[str, Any], condition: Condition | None) -> dict[str, Any]:
    """What run.yaml holds beside the settings; `tokens_identity` joins it once the tokens are known.

    Args:
        identities: of all that the run is made of, by kind.
        condition: what the model is asked with.
    """
    return {
        "versions": {
            "trueup": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        **identities,
        "asked_with": None if condition is None else asdict(condition),
    }


def condition_as_begun(folder: Path, now: Condition | None) -> Condition | None:
    """What the model was asked with when the run began; `trueup condition` may have changed it since."""
    record = read_record(folder)
    if "asked_with" not in record:
        return now
    begun = record["asked_with"]
    return None if begun is None else Condition(**begun)


def sealed(resolved: Resolved, record: Mapping[str, Any], configured: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides how a run ends, by name; JSON-ready.

    Args:
        record: what run.yaml holds beside the settings, as far as it is known.
        configured: how the policy computes with its weights.
    """
    plain = dump(resolved)
    settings = flatten(plain["method_settings"]) | flatten(plain["settings"])
    free = {*RESUME_MAY_CHANGE, "output"}
    kept = {name: value for name, value in settings.items() if name not in free}
    known = {name: value for name, value in record.items() if name not in ("versions", "reference")}
    made: dict[str, Any] = json.loads(
        json.dumps(
            {"method": resolved.info.name, **kept, **_by_name(known), **flatten(configured)}, default=str
        )
    )
    return made


def seal_of(content: Mapping[str, Any]) -> str:
    """Hash of what is sealed, which every checkpoint holds."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def refuse_changed(folder: RunFolder, now: Mapping[str, Any], seal: str | None = None) -> None:
    """Refuse to go on where anything that decides the result is not what the run began with.

    Args:
        now: see `sealed`; what is not known yet may be missing.
        seal: of the checkpoint that the run goes on from.

    Raises:
        InputError: something has changed; each is named, with what it was and is.
    """
    try:
        before = json.loads(folder.sealed.read_text(encoding="utf-8"))
        assert isinstance(before, dict)
    except (OSError, ValueError, AssertionError):
        raise InputError(
            f"{folder.sealed} is missing or damaged, so that nothing tells whether the run goes on as it began. Put it "
            "back, or begin a new run"
        ) from None
    # Before the first checkpoint not everything may have been known when a run was stopped.
    names = (
        [*before, *(name for name in now if name not in before)]
        if seal
        else [*filter(before.__contains__, now)]
    )
    changed = [
        f"{name} (was {_shown(before.get(name))}, is {_shown(now.get(name))})"
        for name in names
        if before.get(name) != now.get(name)
    ]
    if seal is not None and not changed and seal != seal_of(before):
        changed.append(f"{folder.sealed.name}, which is not the one that the checkpoint was written with")
    if changed:
        raise InputError(
            f"{folder.path}: the run cannot go on as it began, because these have changed since: {'; '.join(changed)}. "
            "Put them back, or begin a new run"
        )


def other_files(settings: RunSettings) -> dict[str, str]:
    """Hashes of the files and models that judge and sample beside the policy, by their names."""
    made: dict[str, str] = {}
    if (choice := settings.annotator) is not None:
        about, given = choice.about, vars(choice)
        for setting, named in about.files.items():
            if (path := named.path(given[setting])) is not None:
                made[f"annotator.{setting} {path}"] = content_identity(Path(path))
        if about.weights is not None:
            made[f"annotator.{about.main} {given[about.main]}"] = content_identity(Path(given[about.main]))
    made |= {f"sampler.models {path}": content_identity(Path(path)) for path in settings.sampler.models}
    return made


def _by_name(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record holds, under names for messages."""
    made: dict[str, Any] = {}
    for kind, value in record.items():
        inner = value if isinstance(value, dict) and kind != "asked_with" else {KINDS.get(kind, kind): value}
        made |= inner
    return made


def _shown(value: object) -> str:
    return "nothing" if value is None else shortened(value, 60) if isinstance(value, str) else str(value)


def warn_of_versions(folder: Path, record: Mapping[str, Any]) -> None:
    """Say which packages are others than the run began with."""
    versions = record["versions"]
    for name, was in read_record(folder).get("versions", {}).items():
        if was != versions.get(name):
            logger.warning(
                f"the run began with {name} {was} and goes on with {versions.get(name)}: not bit for bit the same"
            )
