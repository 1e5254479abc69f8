"""One of several processes ends, is asked to stop, or meets what cannot be: all end, and one says why."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from subprocess import Popen

import pytest
from safetensors.torch import load_file
from support.several_processes import SECONDS, launch
from support.small_runs import write_feedback
from support.tiny_models import save_tiny_model


def worker(torchrun: Popen[str], rank: int) -> int:
    """The number of the process that has a rank."""
    for child in Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split():
        if f"RANK={rank}\0".encode() in Path(f"/proc/{child}/environ").read_bytes().replace(
            b"LOCAL_RANK", b""
        ):
            return int(child)
    raise AssertionError(f"no process has rank {rank}")


def ended(process: Popen[str]) -> str:
    said, _ = process.communicate(timeout=SECONDS)
    return said


def after_steps(folder: Path, count: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        file = folder / "run" / "metrics.jsonl"
        if file.exists() and file.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the run takes no steps")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two processes that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    save_tiny_model(folder / "tiny")
    process = begin(folder)
    said = ended(process)
    assert process.returncode == 0, said
    return folder


@pytest.fixture
def folder(uninterrupted: Path, tmp_path: Path) -> Path:
    """A folder with the model, for a run of one's own."""
    shutil.copytree(uninterrupted / "tiny", tmp_path / "tiny")
    return tmp_path


def begin(folder: Path, *more: str) -> Popen[str]:
    """Begin a run of two processes in a folder with a model."""
    data = write_feedback(folder)
    return launch(
        2, "-m", "trueup", "train", "dpo", "--model", str(folder / "tiny"), "--data", str(data["pairs"]),
        *("--output", str(folder / "run"), "--batch_size", "4", "--steps", "24", "--save_every", "5"),
        *("--learning_rate", "1e-3", "--seed", "3", *more),
    )  # fmt: skip


def assert_goes_on_to_the_bit(folder: Path, uninterrupted: Path) -> None:
    process = launch(2, "-m", "trueup", "train", "dpo", "--resume", str(folder / "run"))
    said = ended(process)
    assert process.returncode == 0 and "going on after step" in said, said
    expected, found = (load_file(one / "run/model/model.safetensors") for one in (uninterrupted, folder))
    assert all(found[name].equal(value) for name, value in expected.items())


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.many), 1])
def test_one_that_is_killed_ends_all_and_the_run_goes_on_to_the_bit(
    rank: int, folder: Path, uninterrupted: Path
) -> None:
    process = begin(folder)
    after_steps(folder, 8)
    os.kill(worker(process, rank), signal.SIGKILL)
    said = ended(process)
    assert process.returncode != 0
    assert "[rank" not in said and said.count("another process ended") == 1, said
    assert_goes_on_to_the_bit(folder, uninterrupted)


def test_one_that_is_asked_to_stop_stops_all_at_one_step(folder: Path, uninterrupted: Path) -> None:
    process = begin(folder)
    after_steps(folder, 8)
    os.kill(worker(process, 1), signal.SIGTERM)
    said = ended(process)
    assert said.count("stopped by SIGTERM; go on with") == 1, said
    assert json.loads((folder / "run/status.json").read_text())["state"] == "stopped"
    assert_goes_on_to_the_bit(folder, uninterrupted)


@pytest.mark.parametrize(
    ("more", "said_once"),
    [
        pytest.param(("--beta", "x"), "beta", marks=pytest.mark.many),
        (("--learning_rate", "1e38", "--max_grad_norm", "0"), "is not finite"),
        pytest.param(("--model", "nowhere"), "nowhere", marks=pytest.mark.many),
    ],
)
def test_a_fault_that_all_meet_is_said_once(more: tuple[str, ...], said_once: str, folder: Path) -> None:
    process = begin(folder, *more)
    said = ended(process)
    assert process.returncode != 0 and "[rank" not in said, said
    lines = [line for line in said.splitlines() if line.startswith("trueup: ")]
    assert len(lines) == 1 and said_once in lines[0], said
