"""The first signal asks, the second does not."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.small_runs import in_child, write_feedback

import trueup
from trueup import stop
from trueup.errors import Stopped


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_heard_at_the_next_look(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop.on_signals():
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped, match=number.name):
            stop.check()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("first, second", [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGTERM"), ("SIGTERM", "SIGINT")])
def test_the_second_signal_ends_the_process_at_once(first: str, second: str) -> None:
    """With the code a shell gives a process that was ended by it, and without a word."""

    def body() -> int:
        with stop.on_signals():
            os.kill(os.getpid(), signal.Signals[first])
            os.kill(os.getpid(), signal.Signals[second])
        return 0

    assert in_child(body) == 128 + signal.Signals[second]


def test_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), stop.on_signals():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_outlasts_inner_blocks_and_other_threads_leave_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def inner() -> None:
        with stop.on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    def in_thread() -> None:
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()

    in_thread()
    assert seen == [before]
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        inner()
        in_thread()
        with pytest.raises(Stopped):
            stop.check()


def test_a_signal_while_torch_is_being_imported_ends_the_run_cleanly(tiny_model: Path, tmp_path: Path) -> None:
    """In a process of its own, signalled as soon as it holds the folder, which takes less than importing torch."""
    data, output = write_feedback(tmp_path)["pairs"], tmp_path / "run"
    arguments = ["train", "dpo", "--model", tiny_model, "--data", data, "--output", output, "--epochs", "200"]
    command = [sys.executable, "-m", "trueup", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(trueup.__file__).parents[1])}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + 300
        while not (output / ".lock").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert said.splitlines() == ["stopped by SIGTERM before anything was written"]
    assert not output.exists()
