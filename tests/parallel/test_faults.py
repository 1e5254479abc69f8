"""One of several processes ends, is asked to stop, or meets what cannot be: all end, and one says why."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any

import pytest
from support.fake_vllm import FakeVllm
from support.faulty_server import FaultyServer, ReceivedRequest, Reply
from support.several_processes import SECONDS, environment, launch, run_all
from support.small_runs import settings, write_feedback
from support.tiny_models import save_tiny_model

from trueup.config.resolve import resolve
from trueup.config.run_checks import check_inputs
from trueup.errors import InputError
from trueup.parallel.processes import inside

IN_DPO, IN_KTO = (1, 4, 9), (15, 17)
"""Where memory runs out: in a pass of the reference, of the policy, and in the one back; in what KTO measures."""
ANSWERS = 20
"""Of a server before it is gone."""
BY_LETTERS = "def letters(prompt, response):\n    return float(sum(map(ord, response)))\n"
IMPATIENT = "from trueup.parallel import processes\nprocesses.BEAT, processes.SILENT = 0.1, {}\n"
TRUEUP = IMPATIENT.format(5.0) + "from trueup.cli.app import main\nmain()\n"
WAITS = (
    IMPATIENT.format(2.0)
    + """
import sys, time
with processes.joined():
    print("joined", flush=True)
    processes.gather(1)
    time.sleep(float(sys.argv[1]) if processes.rank() == int(sys.argv[2]) else 0)
    processes.gather(2)
    print("done", flush=True)
"""
)
"""Programs of which the first gives up early what gives no sign of life, and the second only waits for one of them."""
COMMAND = (
    "--batch_size", "4", "--steps", "60", "--save_every", "5", "--learning_rate", "1e-3", "--seed", "3",
)  # fmt: skip


def served(server: FaultyServer, folder: Path, **more: Any) -> dict[str, Any]:
    """Settings of a run whose responses a server writes."""
    return {
        "prompts": str(folder / "pairs.jsonl"), "annotator": f"{folder / 'rewards.py'}:letters", "steps": 4,
        "batch_size": 6, "sampler.engine": "server", "sampler.base_url": [server.url], "sampler.timeout": 1.0,
        "sampler.max_new_tokens": 4, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, feedback and an annotator."""
    made = tmp_path_factory.mktemp("faults")
    save_tiny_model(made / "tiny")
    write_feedback(made)
    (made / "rewards.py").write_text(BY_LETTERS)
    return made


@pytest.fixture(scope="module")
def ended(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """How runs of two processes end that meet something, by the name of their folder: of each process."""
    data = write_feedback(folder)

    def of(name: str, method: str = "dpo", **more: Any) -> dict[str, Any]:
        made = settings(method, folder / "tiny", data, folder / name, save_every=2)
        unused = ("data", "epochs") if method == "oaif" else ()
        return {key: one for key, one in (made | more).items() if key not in unused and one is not None}

    vllm = FakeVllm(folder / "tiny")

    def answers_for_a_while(asked: ReceivedRequest) -> Reply:
        gone = sum("completions" in one.path for one in server.asked) > ANSWERS
        return Reply(close=True) if gone else vllm(asked)

    with FaultyServer(answers_for_a_while) as server:
        online = {**of("server", "oaif"), **served(server, folder)}
        drawn = {"sampler.engine": "in-process", "sampler.base_url": None, "lora.rank": 2, "steps": 8}
        drawn = {**served(server, folder), **drawn}
        runs: list[Sequence[Any]] = [
            ("dpo", of("undisturbed")),
            ("dpo", of("plain", epochs=None, steps=60, save_every=5, learning_rate=1e-3, seed=3)),
            ("dpo", of("nan"), "not a number", 1),
            ("resume", of("nan")),
            ("dpo", of("disk"), "full disk", 1),
            ("dpo", of("first disk"), "full disk", 0),
            ("dpo", of("slow"), "slow", 1),
            ("dpo", of("mean"), "mean of gradients", None),
            ("oaif", online, "impatient", None),
            ("oaif", of("online", "oaif", **drawn)),
            ("oaif", of("online nan", "oaif", **drawn), "not a number", 1),
            ("resume", of("online nan")),
            ("dpo", of("memory", micro_batch_tokens=1), "no memory 4", 1),
            *(("dpo", of(f"dpo {place}"), f"no memory {place}", 1) for place in IN_DPO),
            *(("kto", of(f"kto {place}", "kto"), f"no memory {place}", 0) for place in IN_KTO),
            ("dpo", of("elsewhere"), "no memory for the optimizer", 1),
        ]
        _, told = run_all(folder, 2, runs, ends=False)
    names = (f"{Path(one['output']).name}{', resumed' * (how == 'resume')}" for how, one, *_ in runs)
    return dict(zip(names, told, strict=True))


@pytest.mark.parametrize(("method", "places"), [("dpo", IN_DPO), ("kto", IN_KTO)])
def test_where_memory_runs_out_the_step_is_made_again(
    method: str, places: Sequence[int], ended: dict[str, list[dict[str, Any]]], folder: Path
) -> None:
    """Wherever in the step that is: all lower the budget, and the run is to the bit one with that budget."""
    runs = [folder / f"{method} {place}" for place in places]
    for run in runs:
        assert all(one.keys() == {"seconds"} for one in ended[run.name]), ended[run.name]
        log = (run / "run.log").read_text()
        assert log.count(": memory ran out (process ") == 1 and "the step is made again" in log
        assert weights(run) == weights(runs[0])


def weights(run: Path, file: str = "model") -> bytes:
    return (run / "model" / f"{file}.safetensors").read_bytes()


def state(run: Path) -> tuple[str, int]:
    told = json.loads((run / "status.json").read_text())
    return told["state"], told["step"]


@pytest.mark.parametrize(
    ("name", "kind", "said", "stands"),
    [
        ("nan", "NumericsError", "process 1: step 6: the loss of ", None),
        ("disk", "CheckpointError", "process 1: {}/checkpoints/step-00000004: the check", ("stopped", 4)),
        ("first disk", "CheckpointError", "{}/checkpoints/step-00000004: the check", ("stopped", 4)),
        ("mean", "NumericsError", "the gradient of the model's head in shards is off by 50%", None),
        ("server", "AnnotatorError", "http://127.0.0.1", ("stopped", 1)),
        ("memory", "InputError", "step 2: memory ran out (process 1: ", ("failed", 1)),
        ("elsewhere", "TrueupError", "process 1: memory ran out: cannot allocate", None),
    ],
)  # fmt: skip
def test_what_one_meets_all_end_with(
    name: str, kind: str, said: str, stands: tuple[str, int] | None, ended: dict[str, list[dict[str, Any]]],
    folder: Path,
) -> None:  # fmt: skip
    """At the same step, within a minute, and with one message, which names the process."""
    told = ended[name]
    (shown,) = [one for one in told if one["shown"]]
    assert shown["error"] == kind and shown["said"].startswith(said.format(folder / name)), told
    assert all(one.get("seconds", 0) < 60 for one in told), told
    if stands is not None:
        assert state(folder / name) == stands


def test_a_slow_process_changes_nothing(ended: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    assert all(one.keys() == {"seconds"} for name in ("undisturbed", "slow") for one in ended[name]), ended
    assert weights(folder / "slow") == weights(folder / "undisturbed")


@pytest.mark.parametrize(
    ("name", "plain", "file"),
    [("nan", "undisturbed", "model"), ("online nan", "online", "adapter_model")],
)
def test_a_damaged_shard_sends_all_to_the_checkpoint_before(
    name: str, plain: str, file: str, ended: dict[str, list[dict[str, Any]]], folder: Path
) -> None:
    assert all(one.keys() == {"seconds"} for one in ended[f"{name}, resumed"]), ended
    assert "step-00000004: damaged checkpoint, not used" in (folder / name / "run.log").read_text()
    assert weights(folder / name, file) == weights(folder / plain, file)


def worker(torchrun: Popen[str], rank: int) -> int:
    """The number of the process that has a rank."""
    for child in Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split():
        if f"RANK={rank}\0".encode() in Path(f"/proc/{child}/environ").read_bytes().replace(b"LOCAL_RANK", b""):
            return int(child)
    raise AssertionError(f"no process has rank {rank}")


def gone(number: int) -> None:
    end = time.monotonic() + 20
    while (status := Path(f"/proc/{number}/stat")).exists() and status.read_text().split()[2] != "Z":
        assert time.monotonic() < end, "the other waits for ever"
        time.sleep(0.05)


def said_by(process: Popen[str]) -> str:
    said, _ = process.communicate(timeout=SECONDS)
    return said


def after_steps(run: Path, count: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        file = run / "metrics.jsonl"
        if file.exists() and file.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the run takes no steps")


def begin(folder: Path, run: Path, *more: str) -> Popen[str]:
    """Begin a run of two processes."""
    return launch(
        2, "-m", "trueup", "train", "dpo", "--model", str(folder / "tiny"), "--data", str(folder / "pairs.jsonl"),
        "--output", str(run), *COMMAND, *more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "stopped", "killed", "how"),
    [
        (1, signal.SIGTERM, 1, signal.SIGKILL),
        pytest.param(None, signal.SIGINT, 0, signal.SIGKILL, marks=pytest.mark.many),
        pytest.param(0, signal.SIGINT, 1, signal.SIGSTOP, marks=pytest.mark.many),
        pytest.param(0, signal.SIGTERM, 0, signal.SIGSTOP, marks=pytest.mark.many),
    ],
)
def test_stopped_and_killed_a_run_goes_on_to_the_bit(
    asked: int | None, stopped: signal.Signals, killed: int, how: signal.Signals,
    ended: dict[str, list[dict[str, Any]]], folder: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """One process is asked to stop, or torchrun itself; it goes on, one is killed or frozen, and it goes on again."""
    (tmp_path / "impatient.py").write_text(TRUEUP)
    run, resume = tmp_path / "run", ("-m", "trueup", "train", "dpo", "--resume", str(tmp_path / "run"))
    process = begin(folder, run)
    after_steps(run, 8)
    os.kill(process.pid if asked is None else worker(process, asked), stopped)
    said = said_by(process)
    assert said.count(f"stopped by {stopped.name}; go on with") == 1, said
    stands, step = state(run)
    assert stands == "stopped" and (run / f"checkpoints/step-{step:08d}/manifest.json").exists()
    process = launch(2, str(tmp_path / "impatient.py"), *resume[2:])
    after_steps(run, step + 3)
    lost, other = worker(process, killed), worker(process, 1 - killed)
    os.kill(lost, how)
    if how == signal.SIGSTOP:
        gone(other)
        os.kill(lost, signal.SIGKILL)  # as torchrun does after half a minute
    said = said_by(process)
    why = f"no sign of life of process {killed}" if how == signal.SIGSTOP else "another process ended"
    assert process.returncode != 0 and "going on after step" in said
    assert "[rank" not in said and said.count(why) == said.count("\ntrueup: ") == 1, said
    process = launch(2, *resume)
    said = said_by(process)
    assert process.returncode == 0, said
    assert "error" not in ended["plain"][0] and weights(run) == weights(folder / "plain")


def test_what_was_stopped_is_given_up_and_what_is_slow_is_not(tmp_path: Path) -> None:
    """Also where the one that is stopped keeps what all share, as the first one does without torchrun."""
    (tmp_path / "waits.py").write_text(WAITS)

    def begun(seconds: int, who: int) -> list[Popen[str]]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        of_all = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, str(tmp_path / "waits.py"), str(seconds), str(who)]
        return [
            Popen(command, env=environment(**of_all, RANK=str(number)), text=True, stdout=PIPE, stderr=STDOUT)
            for number in range(2)
        ]

    slow, stopped = begun(5, 0), [begun(60, who) for who in range(2)]
    for who, several in enumerate(stopped):
        assert all(one.stdout and one.stdout.readline() == "joined\n" for one in several)
        several[who].send_signal(signal.SIGSTOP)
    try:
        for who, several in enumerate(stopped):
            said, _ = several[1 - who].communicate(timeout=20)
            assert several[1 - who].returncode == 1 and f"trueup: no sign of life of process {who}" in said, said
        assert [one.communicate(timeout=20)[0] for one in slow] == ["joined\ndone\n"] * 2
    finally:
        for one in (*stopped[0], *stopped[1], *slow):
            one.kill()
            one.communicate()


@pytest.mark.many
@pytest.mark.parametrize(
    ("more", "said_once"),
    [(("--beta", "x"), "beta"), (("--bet", "1"), "bet is not a setting"),
     (("--learning_rate", "1e38", "--max_grad_norm", "0"), "is not finite"),
     (("--model", "nowhere"), "nowhere")],
)  # fmt: skip
def test_a_fault_that_all_meet_is_said_once(
    more: tuple[str, ...], said_once: str, folder: Path, tmp_path: Path
) -> None:
    process = begin(folder, tmp_path / "run", *more)
    said = said_by(process)
    assert process.returncode != 0 and "[rank" not in said, said
    lines = [line for line in said.splitlines() if line.startswith("trueup: ")]
    assert len(lines) == 1 and said_once in lines[0], said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"quantize": "nf4", "lora.rank": 4}, "weights in 4 bits are not sharded; start one process"),
        ({"parallel.shard": 3}, "parallel.shard 3 and parallel.replicate None do not make 2"),
    ],
)
def test_what_several_processes_cannot_is_refused_before_anything_is_loaded(
    given: dict[str, Any], why: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line; by whoever of them looks."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    values = settings("dpo", folder / "tiny", write_feedback(tmp_path), tmp_path / "run", **given)
    with pytest.raises(InputError, match=why):
        found = check_inputs(resolve("dpo", overrides=values).settings)
        inside(found.parallel.shard, found.parallel.replicate)
