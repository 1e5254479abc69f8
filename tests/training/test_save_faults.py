"""Killed at any call of a save, or out of room in one: the run goes on from what is whole, bit for bit."""

import json
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from support import small_runs
from support.broken_runs import die_at, goes_on, mount_small, one_line, train
from support.toy_checkpoints import flip, same, toy

from trueup.errors import CheckpointError
from trueup.training import loop, session
from trueup.training.checkpoint import load_newest, save


@pytest.mark.parametrize("keep, damaged", [(1, False), (2, False), (2, True)])
def test_killed_at_any_call_of_a_save(keep: int, damaged: bool, tmp_path: Path) -> None:
    """Steps 3 and 6 are there and 9 is being saved; or 6 is damaged and comes again after a restart from 3. Whatever
    is loaded is whole, never older than what was there before, and the save can be repeated."""
    template, target = tmp_path / "template", 6 if damaged else 9
    for step in (3, 6):
        save(template, toy(step), keep=2)
    if damaged:
        flip(template / "step-00000006" / "policy.safetensors")
    found: list[int] = []
    for number in range(1, 200):
        folder = tmp_path / str(number)
        shutil.copytree(template, folder)

        def body(number: int = number, folder: Path = folder) -> None:
            die_at(number)
            save(folder, toy(target), keep=keep)

        code = small_runs.in_child(body)
        loaded = load_newest(folder)
        assert loaded is not None
        assert same(loaded, toy(loaded.step))
        found.append(loaded.step)
        save(folder, toy(target), keep=keep)
        assert same(load_newest(folder), toy(target))
        assert len(list(folder.iterdir())) <= keep
        if not code:
            break
        assert code == -signal.SIGKILL
    assert not code
    assert len(found) > 30  # calls of a save, and the whole one
    assert set(found) == {3 if damaged else 6, target}
    assert found == sorted(found)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    uninterrupted: Any, broken_off: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = broken_off
    flip(output / "checkpoints" / "step-00000006" / "random.safetensors")
    assert small_runs.command("train", "dpo", "--resume", output) == 0
    said = capsys.readouterr().err
    assert "step-00000006: damaged checkpoint, not used: random.safetensors does not match its checksum" in said
    assert "going on from step-00000003, the newest whole checkpoint" in said
    assert "going on after step 3 of 12" in said
    assert small_runs.model_bytes(output) == small_runs.model_bytes(uninterrupted[1])
    assert small_runs.metrics_of(output) == small_runs.metrics_of(uninterrupted[1])


def kept(output: Path) -> dict[Path, bytes]:
    """All files of a run but the one that says what went wrong."""
    return {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.name != "run.log"}


def test_when_every_checkpoint_is_damaged_the_run_is_not_begun_again(
    broken_off: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (broken_off / "checkpoints").iterdir():
        flip(folder / "optimizer.safetensors")
    before = kept(broken_off)
    assert small_runs.command("train", "dpo", "--resume", broken_off) == 4
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trueup: ")]
    assert len(said) == 1
    assert "every checkpoint is damaged (step-00000006, step-00000003); nothing was deleted. Restore one" in said[0]
    assert "start again with another --output" in said[0]
    assert kept(broken_off) == before


def test_a_pickle_in_a_checkpoint_changes_nothing(uninterrupted: Any, broken_off: Path) -> None:
    for name in ("policy.pt", "optimizer.pkl", ".metadata", "evil.safetensors"):
        aborts = b"cos\nabort\n(tR."  # once it is unpickled
        (broken_off / "checkpoints" / "step-00000006" / name).write_bytes(aborts)
    goes_on(broken_off, uninterrupted[1])


LIMIT = 64_000  # bytes of a file; the tiny model has 100 KB, and its optimizer's state twice that


@contextmanager
def full_disk(module: Any, name: str, when: Callable[..., bool], room: int = LIMIT) -> Iterator[None]:
    """No file can grow beyond `room` once `module.name` is called with arguments for which `when` holds. The system
    sends SIGXFSZ, which Python ignores, and the write fails as on a full disk."""
    original = getattr(module, name)

    def patched(*arguments: Any, **more: Any) -> Any:
        if when(*arguments, **more):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        return original(*arguments, **more)

    with patch.object(module, name, patched):
        yield


@pytest.mark.parametrize("room", [LIMIT, 10])
def test_a_disk_that_fills_up_while_saving(room: int, uninterrupted: Any, tmp_path: Path) -> None:
    """With room for the status of the run, and without: the error is the same."""
    output, errors = tmp_path / "run", tmp_path / "errors"

    def body() -> int:
        with full_disk(loop, "train_step", lambda *_, step, **__: step == 5, room):
            return train({**uninterrupted[0], "output": str(output)})

    assert small_runs.in_child(body, errors) == CheckpointError.exit_code == 4
    said = one_line(errors)
    size = sum(map(len, small_runs.model_bytes(uninterrupted[1]).values())) * 4 / 1e6  # AdamW's two, and the reference
    found = re.search(
        r"step-00000006: the checkpoint could not be written: .*\. It needs ([\d.]+) MB and [\d.]+ MB are free there; "
        r"earlier checkpoints are intact\. Make room and go on with --resume",
        said,
    )
    assert found is not None and float(found[1]) == pytest.approx(size, abs=0.1)
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["step-00000003"]
    state, step = ("stopped", 6) if room == LIMIT else ("running", 3)
    status = json.loads((output / "status.json").read_text())
    assert (status["state"], status["step"], status["steps"]) == (state, step, 12)
    goes_on(output, uninterrupted[1])


def test_a_disk_that_fills_up_while_the_model_is_written(uninterrupted: Any, tmp_path: Path) -> None:
    output, errors = tmp_path / "run", tmp_path / "errors"

    def body() -> int:
        with full_disk(session.export, "export", lambda *_, **__: True):
            return train({**uninterrupted[0], "output": str(output)})

    assert small_runs.in_child(body, errors) == 4
    assert "the finished model could not be written: " in one_line(errors)
    names = {path.name for path in output.iterdir()}
    assert names >= {"run.yaml", "report.html"}
    status = json.loads((output / "status.json").read_text())
    assert (status["state"], status["step"], status["steps"]) == ("stopped", 12, 12)
    assert not names & {"model", ".model.part"}
    before = (output / "metrics.jsonl").read_bytes()
    assert goes_on(output, uninterrupted[1]).metrics["loss"] == json.loads(before.splitlines()[-1])["loss"]
    assert (output / "metrics.jsonl").read_bytes() == before  # without another step


def test_a_run_with_too_little_room_does_not_begin(uninterrupted: Any, tmp_path: Path) -> None:
    """It needs three checkpoints of policy, reference and AdamW's two, each of 0.1 MB."""
    small, errors = tmp_path / "small", tmp_path / "errors"
    small.mkdir()

    def body() -> int:
        if not mount_small(small, "700k"):
            return 77
        code = train({**uninterrupted[0], "output": str(small / "run")})
        return 1 if (small / "run").exists() else code

    code = small_runs.in_child(body, errors)
    if code == 77:
        pytest.skip("this user may not mount a file system")
    assert code == 2
    assert one_line(errors) == (
        f"trueup: {small / 'run'}: on disk the run needs 1.2 MB at most for checkpoints of 0.4 MB and a model of "
        "0.1 MB, and 0.7 MB are free there. Make room, or give another --output, --keep_checkpoints 1 or a larger "
        "--save_every"
    )
