"""A run is a folder: one process at a time, and files that are whole or absent."""

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import yaml
from filelock import FileLock, Timeout

from trueup import errors, files, metrics, words
from trueup.config import layers, run_checks, trust
from trueup.parallel.processes import alike, owned, owns
from trueup.settings.run_settings import RunSettings
from trueup.sources.log import EXAMPLES, ROUNDS


class RunFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._since = datetime.now().astimezone().isoformat(timespec="seconds")
        self.settings = path / "run.yaml"
        self.sealed = path / trust.SEALED_FILE  # what decides the result, by name, as it was when the run began
        self.metrics = path / "metrics.jsonl"
        self.log = path / "run.log"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.status = path / "status.json"
        """`running` (and which process, where and since when), `stopped`, `done` or `failed`, and the step."""
        self.calibration = path / "calibration.json"
        """Of a reward model, how right and how sure its scores are of held-out pairs."""
        self.usage = path / "spent.json"  # what was used of an annotator that has a budget, over all sittings

    @property
    def gathered(self) -> bool:
        """Whether there is feedback that was gathered by the run, or paid for."""
        return any((self.path / name).exists() for name in (EXAMPLES, ROUNDS, self.usage.name))

    def lock(self) -> FileLock:
        """Take the folder for this process; the system gives it back when the process ends, however it ends."""
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
            raise errors.InputError(
                f"{self.path}: another process is training in this folder. Wait for it, or give another --output"
            ) from error
        except OSError as error:
            raise errors.InputError(
                f"{self.path}: the run folder cannot be written: {words.reason(error)}. Give another --output"
            ) from error
        return lock

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for the processes that train in it together; raises as `lock`."""
        with ExitStack() as held:

            def take() -> str:
                held.callback(self.lock().release)
                return marked.enter_context(NamedTemporaryFile(dir=self.path, prefix=".", suffix=".tmp")).name

            def see() -> None:
                if not (self.path / Path(name).name).exists():
                    raise errors.InputError(
                        f"{self.path}: this is not the folder that process 0 writes to. Give an --output that all "
                        "processes see"
                    )

            with ExitStack() as marked:
                name = owned(take)
                alike(see)
            yield

    def write_settings(self, content: Mapping[str, Any]) -> None:
        self._write(self.settings, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))

    def write_sealed(self, content: Mapping[str, Any], settings: RunSettings) -> None:
        """Write sealed.json whole, signed by this user."""
        signed = trust.signature(content, layers.flatten(settings.model_dump(mode="json")))
        self._write(self.sealed, json.dumps({**content, trust.SIGNED: signed}, indent=1) + "\n")

    def read_sealed(self) -> dict[str, Any]:
        """What sealed.json holds, without its signature."""
        content = trust.sealed_content(self.path)
        if not content:
            raise errors.InputError(
                f"{self.sealed} is missing or damaged, so that nothing tells whether the run goes on as it began. Put "
                "it back, or begin a new run"
            )
        return {name: value for name, value in content.items() if name != trust.SIGNED}

    def write_status(self, state: str, step: int, total: int, warnings: Sequence[str] = ()) -> None:
        """Write status.json whole, with what is wrong with the model of a run that is done."""
        content: dict[str, Any] = {"state": state, "step": step, "steps": total}
        if warnings:
            content["warnings"] = list(warnings)
        if state == "running":
            content |= {"pid": os.getpid(), "host": socket.gethostname(), "since": self._since}
        self._write(self.status, json.dumps(content) + "\n")

    @contextmanager
    def sitting(self, before: Mapping[str, Any]) -> Iterator[None]:
        """Around a run that goes on: `running` from its first moment, or as `before` where it cannot go on at all."""
        written = self.status.read_text(encoding="utf-8") if before else ""
        if before.get("state") == "killed":
            process = f"process {before.get('pid')} on {before.get('host')}, begun {before.get('since')}"
            words.logger.info(f"the last sitting was killed after step {before.get('step')} or later ({process})")
        self.write_status("running", before.get("step", 0), before.get("steps", 0))
        try:
            yield
        except BaseException:
            now = self.read_status()
            if written and (now.get("state"), now.get("step")) == ("running", before.get("step")):
                with suppress(errors.CheckpointError):  # on a full disk the first error is the one to report
                    self._write(self.status, written)
            raise

    def write_calibration(self, content: Mapping[str, Any]) -> None:
        self._write(self.calibration, json.dumps(content, indent=2) + "\n")

    def read_status(self) -> dict[str, Any]:
        """The last status; empty where there is none. One that says `running` where no process has the folder is that
        of a run that was killed: its state is `killed`."""
        try:
            content = json.loads(self.status.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict):
            return {}
        return {**content, "state": "killed"} if content.get("state") == "running" and self._free() else content

    def _free(self) -> bool:
        try:
            if (self.path / ".lock").exists():
                FileLock(self.path / ".lock").acquire(timeout=0).lock.release()
        except (Timeout, OSError):
            return False
        return True

    def check_fresh(self, *, gathers: bool = False) -> None:
        """Refuse a folder with a run, or with checkpoints alone, from which a new one would go on once stopped."""
        run_checks.check_output(str(self.path))
        if gathers and self.gathered:
            raise errors.InputError(
                f"{self.path} holds what another run gathered ({EXAMPLES}, {ROUNDS} or {self.usage.name}), but no "
                "run.yaml. Give another --output, or move these files away"
            )
        if self.checkpoints.is_dir() and any(self.checkpoints.iterdir()):
            raise errors.InputError(
                f"{self.path} holds checkpoints of another run, whose run.yaml is gone. Give another --output, or "
                f"remove {self.checkpoints}"
            )

    def discard(self) -> None:
        """Undo what a run wrote that has nothing worth going on from; nothing that was gathered is touched."""
        if not owns():
            return
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for file in (self.settings, self.sealed, self.status, self.metrics, self.path / metrics.WANDB):
            file.unlink(missing_ok=True)

    def discard_if_empty(self) -> None:
        """Remove the folder of a run that failed before it wrote anything but what it said."""
        if owns() and self.path.is_dir() and not self.settings.exists():
            self.log.unlink(missing_ok=True)
            if {entry.name for entry in self.path.iterdir()} <= {".lock"}:
                (self.path / ".lock").unlink(missing_ok=True)
                self.path.rmdir()

    def _write(self, file: Path, text: str) -> None:
        if not owns():
            return
        with files.of_run(file), files.replaced_file(file) as opened:
            opened.write(text.encode())
