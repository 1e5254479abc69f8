"""A run that is signalled or killed at a place where it matters, or whose folder becomes read-only: it goes on."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from support.broken_runs import die_at, goes_on, make_read_only, make_writable, one_line, train
from support.small_runs import at_step, in_child, metrics_of, model_bytes

from trueup import files
from trueup.errors import CheckpointError
from trueup.metrics import Metrics
from trueup.models.causal import CausalModel
from trueup.references.build import ModelCopy
from trueup.training import checkpoint, export, loop
from trueup.training.checkpoint import load_newest
from trueup.training.folder import RunFolder
from trueup.training.optimizer import Optimizer


@contextmanager
def signalled(where: Any, name: str, call: int, *numbers: int) -> Iterator[None]:
    """This process gets the signals in the given call of `where.name`, which then goes on."""
    original, calls = getattr(where, name), []

    def patched(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            for number in numbers:
                os.kill(os.getpid(), number)
        return original(*arguments, **more)

    with patch.object(where, name, patched):
        yield


def saved_step(output: Path) -> int:
    saved = load_newest(output / "checkpoints")
    assert saved is not None
    return saved.step


PLACES: dict[str, tuple[signal.Signals, Any, str, int, int]] = {
    "forward pass of the policy or the reference": (signal.SIGTERM, CausalModel, "forward", 17, 7),
    "backward pass": (signal.SIGINT, torch.Tensor, "backward", 7, 7),
    "step of the optimizer": (signal.SIGTERM, Optimizer, "step", 7, 7),
    "move of the reference": (signal.SIGINT, ModelCopy, "update", 7, 7),
    "a line of metrics": (signal.SIGTERM, Metrics, "write", 7, 7),
    "save of step 6": (signal.SIGINT, checkpoint, "_write", 6, 6),
    "flush of a checkpoint": (signal.SIGTERM, files, "flush_to_disk", 15, 6),
    "status after a save": (signal.SIGINT, RunFolder, "write_status", 3, 6),
}
"""Signal, object, function, which of its calls, and the step that is being taken then."""


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_anywhere_stops_the_run_within_a_step(place: str, uninterrupted: Any, tmp_path: Path) -> None:
    output, errors = tmp_path / "run", tmp_path / "errors"
    number, where, name, call, step = PLACES[place]

    def body() -> int:
        with signalled(where, name, call, number):
            return train({**uninterrupted[0], "output": str(output)})

    assert in_child(body, errors) == 128 + number
    said = errors.read_text().splitlines()
    assert said[-1] == f"stopped by {number.name}; go on with: trueup train dpo --resume {output}"
    assert not (output / "model").exists()
    status = json.loads((output / "status.json").read_text())
    assert status["state"] == "stopped"
    assert abs(status["step"] - step) <= 1
    assert saved_step(output) == status["step"]  # nothing that was done is lost
    goes_on(output, uninterrupted[1])


def test_a_signal_while_the_finished_model_is_written_does_not_stop_it(uninterrupted: Any, tmp_path: Path) -> None:
    output = tmp_path / "run"

    def body() -> int:
        with signalled(export, "export", 1, signal.SIGTERM):
            return train({**uninterrupted[0], "output": str(output)})

    assert in_child(body) == 0
    assert json.loads((output / "status.json").read_text())["state"] == "done"
    assert model_bytes(output) == model_bytes(uninterrupted[1])
    assert metrics_of(output) == metrics_of(uninterrupted[1])


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_in_a_save_ends_the_run_at_once(second: int, uninterrupted: Any, tmp_path: Path) -> None:
    """Step 6 is half written then; step 3 is whole."""
    output, errors = tmp_path / "run", tmp_path / "errors"

    def body() -> int:
        with signalled(files, "flush_to_disk", 15, signal.SIGTERM, second):
            return train({**uninterrupted[0], "output": str(output)})

    assert in_child(body, errors) == 128 + second
    assert "Traceback" not in errors.read_text()
    assert {path.name for path in (output / "checkpoints").iterdir()} == {"step-00000003", ".step-00000006.part"}
    assert saved_step(output) == 3
    goes_on(output, uninterrupted[1])
    assert {path.name for path in (output / "checkpoints").iterdir()} == {"step-00000009", "step-00000012"}


@pytest.mark.parametrize("number", range(1, 30, 4))
def test_a_run_killed_in_a_save_goes_on(number: int, uninterrupted: Any, tmp_path: Path) -> None:
    """At the n-th call of the save of step 6 that changes the disk."""
    output = tmp_path / "run"

    def body() -> int:
        original = loop.save_run

        def armed(run: Any, *arguments: Any, **more: Any) -> None:
            if run.step == 6:
                die_at(number)
            original(run, *arguments, **more)

        with patch.object(loop, "save_run", armed):
            return train({**uninterrupted[0], "output": str(output)})

    assert in_child(body) == -signal.SIGKILL
    assert saved_step(output) in (3, 6)
    goes_on(output, uninterrupted[1])


def test_a_folder_that_becomes_read_only(uninterrupted: Any, tmp_path: Path) -> None:
    """Metrics cost a warning; the next save ends the run in one line, and what was there is as it was."""
    output, errors = tmp_path / "run", tmp_path / "errors"

    def body() -> int:
        with at_step(5, lambda policy: make_read_only(output) or os._exit(77)):
            return train({**uninterrupted[0], "output": str(output)})

    code = in_child(body, errors)
    if code == 77:
        pytest.skip("this user may not mount a file system")
    make_writable(output)
    assert code == CheckpointError.exit_code == 4
    said = one_line(errors)
    assert f"{output / 'checkpoints' / 'step-00000006'}: the checkpoint could not be written: " in said
    assert "Read-only file system" in said or "Permission denied" in said
    assert "earlier checkpoints are intact" in said
    assert errors.read_text().count("metrics are not written") == 1
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["step-00000003"]
    goes_on(output, uninterrupted[1])
