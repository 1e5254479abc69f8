"""A run's folder: one process at a time, nothing left of a run that failed to begin, and what run.yaml tells."""

import hashlib
import json
import multiprocessing
import os
import platform
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.small_runs import at_step, break_off, command, options, run_here, settings, write_feedback

import trueup
from trueup.errors import CheckpointError, InputError
from trueup.models.causal import CausalModel, model_identity
from trueup.models.load import load
from trueup.references.build import ModelCopy
from trueup.settings.run_settings import RunSettings
from trueup.training import api, setup
from trueup.training.folder import RunFolder


@contextmanager
def holder(folder: Path) -> Iterator[Any]:
    """Another process that has taken the folder, and keeps it."""
    context = multiprocessing.get_context("fork")
    ready, tell = context.Pipe(duplex=False)

    def body() -> None:
        lock = RunFolder(folder).lock()
        tell.send(lock.is_locked)
        signal.pause()

    child = context.Process(target=body)
    child.start()
    try:
        assert ready.poll(120)
        assert ready.recv() is True
        yield child
    finally:
        child.kill()
        child.join()


def test_a_second_process_is_refused(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = settings("dpo", tiny_model, write_feedback(tmp_path), tmp_path / "run")
    with holder(tmp_path / "run"):
        assert command("train", "dpo", *options(values)) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said == (
            f"trueup: {tmp_path / 'run'}: another process is training in this folder. Wait for it, or give another "
            "--output"
        )
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_run_that_goes_on_is_refused_to_a_second_process(
    broken_off: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(broken_off) as child:
        assert command("train", "dpo", "--resume", broken_off) == 2
        assert "another process is training in this folder" in capsys.readouterr().err
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert (broken_off / ".lock").exists()  # and does not block
        assert command("train", "dpo", "--resume", broken_off) == 0


def test_files_are_whole_or_absent(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    folder = RunFolder(tmp_path)
    folder.write_status("stopped", 3, 12)
    assert folder.read_status() == {"state": "stopped", "step": 3, "steps": 12}
    full_disk()
    with pytest.raises(CheckpointError, match=r"status\.json: it cannot be written: No space left on device"):
        folder.write_status("done", 12, 12)
    assert folder.read_status()["state"] == "stopped"
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    half, uninterrupted = tmp_path / ".status.json.1f.tmp", tmp_path / "status.json"
    half.write_text("{")
    uninterrupted.write_text("{}")
    parts = [tmp_path / ".model.part", tmp_path / "checkpoints" / ".step-00000003.part"]
    for part in parts:
        part.mkdir(parents=True)
        (part / "policy.safetensors").write_text("half")
    RunFolder(tmp_path).lock().release()
    assert not any(path.exists() for path in (half, *parts))
    assert uninterrupted.exists()


@pytest.mark.parametrize("content", ["", "{torn", "[1]", "\x00", "[" * 9999])
def test_a_status_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "status.json").write_text(content)
    assert RunFolder(tmp_path).read_status() == {}


def spoil_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen reference that is not the policy it was copied from."""
    original = ModelCopy.start

    def start(self: ModelCopy, feed: Any) -> None:
        original(self, feed)
        next(self.model.network.parameters()).data.mul_(1.5)

    monkeypatch.setattr(ModelCopy, "start", start)


def spoil_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CausalModel, "hidden", lambda self, stream: 1 / 0)


FAILURES: dict[str, tuple[dict[str, Any], Callable[[pytest.MonkeyPatch], None], type[Exception], str]] = {
    "no data": ({"data": "absent.jsonl"}, lambda patch: None, InputError, "absent.jsonl"),
    "other data": ({"data": "{demonstrations}"}, lambda patch: None, InputError, "no pairs can be made of that"),
    "too long": ({"max_length": 5}, lambda patch: None, InputError, "nothing of the training data is left"),
    "no module": ({"lora.targets": "nothing"}, lambda patch: None, InputError, "lora.targets"),
    "wrong reference": (
        {"trackers": "tensorboard"}, spoil_reference, trueup.errors.NumericsError, "differs from its reference",
    ),
    "defect": ({}, spoil_layout, ZeroDivisionError, "division"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAILURES)
def test_a_failed_start_leaves_no_folder(
    fault: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its own nor one above it that was there before; and files of the user's stay."""
    changes, prepare, kind, message = FAILURES[fault]
    data = write_feedback(tmp_path)
    prepare(monkeypatch)
    changes = {
        key: str(value).format(demonstrations=data["demonstrations"]) if isinstance(value, str) else value
        for key, value in changes.items()
    }
    for output, before in ((tmp_path / "new", False), (tmp_path / "mine", True)):
        if before:
            output.mkdir()
            (output / "notes.txt").write_text("mine")
        with pytest.raises(kind, match=message):
            run_here("dpo", {**settings("dpo", tiny_model, data, output), **changes})
        assert output.exists() is before
    assert {path.name for path in (tmp_path / "mine").iterdir()} - {".lock"} == {"notes.txt"}


def test_checkpoints_without_a_run_are_not_taken_for_its_own(uninterrupted: Any, broken_off: Path) -> None:
    """Were they, this run, once stopped, would go on from the other's newest, and it would keep these alone."""
    (broken_off / "run.yaml").unlink()
    with pytest.raises(InputError, match=r"run holds checkpoints of another run, whose run\.yaml is gone"):
        run_here("dpo", {**uninterrupted[0], "output": str(broken_off)})
    assert len(list((broken_off / "checkpoints").iterdir())) == 2


def test_run_yaml_says_how_the_run_can_be_repeated(tiny_model: Path, tmp_path: Path) -> None:
    data = write_feedback(tmp_path)
    values = settings("tr-dpo", tiny_model, data, tmp_path / "run", beta=0.07, **{"reference.every": 5})
    run_here("tr-dpo", {**values, "eval_data": str(data["rankings"]), "allow_overlap": True})
    content = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
    assert content["method"] == "tr-dpo"
    assert content["method_settings"] == {
        "beta": 0.07, "sft_weight": 0.0, "reference": {"kind": "trust-region", "alpha": 0.6, "every": 5},
    }  # fmt: skip
    assert set(content["settings"]) == set(RunSettings.model_fields)
    given = {"batch_size": 4, "epochs": 2.0, "learning_rate": 3e-3, "seed": 1, "max_grad_norm": 2.0}
    assert {key: content["settings"][key] for key in given} == given
    assert content["versions"] == {
        "trueup": trueup.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft", "tokenizers", "safetensors")},
    }
    assert content["data_fingerprints"] == {
        str(data[kind]): hashlib.sha256(data[kind].read_bytes()).hexdigest() for kind in ("pairs", "rankings")
    }
    network = load(str(tiny_model), device=torch.device("cpu")).network
    assert content["model_identity"] == content["reference"] == model_identity(network)


def test_the_status_follows_the_run(tiny_model: Path, tmp_path: Path) -> None:
    values = settings("dpo", tiny_model, write_feedback(tmp_path), tmp_path / "run")
    status = tmp_path / "run" / "status.json"
    break_off("dpo", values, before_step=2)
    told = json.loads(status.read_text())
    assert {name: told[name] for name in ("state", "step", "steps", "pid", "host")} == {
        "state": "running", "step": 0, "steps": 12, "pid": os.getpid(), "host": socket.gethostname(),
    }  # fmt: skip
    assert datetime.fromisoformat(told["since"]) <= datetime.now().astimezone()
    assert RunFolder(tmp_path / "run").read_status()["state"] == "killed"
    command("train", "dpo", "--resume", tmp_path / "run")
    assert json.loads(status.read_text()) == {"state": "done", "step": 12, "steps": 12}


def test_a_resumed_run_says_so_from_its_first_moment(
    broken_off: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before its data is read; and one that may not go on is as it was before."""
    seen, before = [], (broken_off / "status.json").read_text()

    def read_data(*_: Any) -> Any:
        seen.append(RunFolder(broken_off).read_status())
        raise InputError("not today")

    monkeypatch.setattr(setup, "read_data", read_data)
    assert command("train", "dpo", "--resume", broken_off) == 2
    assert (seen[0]["state"], seen[0]["step"], seen[0]["pid"]) == ("running", 6, os.getpid())
    assert "the last sitting was killed after step 6 or later (process " in capsys.readouterr().err
    assert RunFolder(broken_off).read_status()["state"] == "killed"
    assert (broken_off / "status.json").read_text() == before


def test_what_was_said_is_kept_over_all_sittings(uninterrupted: Any, broken_off: Path) -> None:
    """Of a quiet run as well; the model card tells what was said of the data in its last sitting."""
    api.resume(broken_off, quiet=True)
    said = [line.split(" ", 3)[3] for line in (broken_off / "run.log").read_text().splitlines()]
    assert [line for line in said if line.startswith(("going on", "the aligned"))] == [
        "going on after step 6 of 12", f"the aligned model is in {broken_off / 'model'}",
    ]  # fmt: skip
    of_data = f"{uninterrupted[0]['data'][0]}: TRL pairs, 24 rows, 24 comparisons"
    assert said.count(of_data) == 2
    card = (broken_off / "model" / "README.md").read_text()
    assert card.count(f"- {of_data}") == 1
    assert "going on" not in card


def test_a_run_that_fails_says_so(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 5, the last checkpoint intact."""

    def spoil(policy: CausalModel) -> None:
        next(policy.network.parameters()).data[:] = float("nan")

    values = settings("sft", tiny_model, write_feedback(tmp_path), tmp_path / "run")
    with at_step(5, spoil):
        assert command("train", "sft", *options(values)) == 5
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("trueup: step 5: the loss of ")
    assert f"{values['data'][0]}:" in said
    assert json.loads((tmp_path / "run" / "status.json").read_text()) == {
        "state": "failed", "step": 4, "steps": 12,
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
