"""One of several processes ends, is asked to stop, or meets what cannot be: all end, and one says why."""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.fake_vllm import FakeVllm
from support.faulty_server import FaultyServer, ReceivedRequest, Reply
from support.several_processes import SECONDS, Forked, Launched, run_all
from support.small_runs import command, model_bytes, options, settings, write_feedback
from support.tiny_models import save_tiny_model

from trueup.config.resolve import resolve
from trueup.config.run_checks import check_inputs
from trueup.errors import InputError, LostProcess
from trueup.parallel import processes

IN_DPO, IN_KTO = (1, 4, 9), (15, 17)
"""Where memory runs out: in a pass of the reference, of the policy, and in the one back; in what KTO measures."""
ANSWERS = 20
"""Of a server before it is gone."""
BY_LETTERS = "def letters(prompt, response):\n    return float(sum(map(ord, response)))\n"
TRUEUP = """
from trueup.cli.app import main
from trueup.parallel import processes
processes.BEAT, processes.SILENT = 0.1, 5.0
main()
"""
"""A program that gives up early what gives no sign of life."""
PLAIN = {"batch_size": 4, "steps": 30, "learning_rate": 1e-3, "seed": 3}
"""A run that is long enough to be stopped in its midst."""


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
        made = settings(method, folder / "tiny", data, folder / name, save_every=2, steps=8, epochs=None)
        made |= {"data": None} if method == "oaif" else {}
        return {key: one for key, one in (made | more).items() if one is not None}

    vllm = FakeVllm(folder / "tiny")

    def answers_for_a_while(asked: ReceivedRequest) -> Reply:
        gone = sum("completions" in one.path for one in server.asked) > ANSWERS
        return Reply(close=True) if gone else vllm(asked)

    with FaultyServer(answers_for_a_while) as server:
        online, few = {**of("server", "oaif"), **served(server, folder)}, {"steps": 5, "save_every": 5}
        drawn = {"sampler.engine": "in-process", "sampler.base_url": None, "lora.rank": 2, "steps": 6}
        drawn = {**served(server, folder), **drawn}
        runs: list[Sequence[Any]] = [
            ("dpo", of("undisturbed", save_every=8)),
            ("dpo", of("nan"), "not a number", 1),
            ("resume", of("nan")),
            ("dpo", of("disk"), "full disk", 1),
            ("dpo", of("first disk"), "full disk", 0),
            ("dpo", of("slow", save_every=8), "slow", 1),
            ("dpo", of("mean"), "mean of gradients", None),
            ("oaif", online, "impatient", None),
            ("oaif", of("online", "oaif", **drawn)),
            ("oaif", of("online nan", "oaif", **drawn), "not a number", 1),
            ("resume", of("online nan")),
            ("dpo", of("memory", micro_batch_tokens=1), "no memory 4", 1),
            *(("dpo", of(f"dpo {place}", **few), f"no memory {place}", 1) for place in IN_DPO),
            *(("kto", of(f"kto {place}", "kto", **few), f"no memory {place}", 0) for place in IN_KTO),
            ("dpo", of("elsewhere"), "no memory for the optimizer", 1),
        ]
        said, told = run_all(folder, 2, runs, ends=False)
    assert len(told) == len(runs), said[-4000:]
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
        assert model_bytes(run) == model_bytes(runs[0])


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
    assert model_bytes(folder / "slow") == model_bytes(folder / "undisturbed")


@pytest.mark.parametrize(("name", "plain"), [("nan", "undisturbed"), ("online nan", "online")])
def test_a_damaged_shard_sends_all_to_the_checkpoint_before(
    name: str, plain: str, ended: dict[str, list[dict[str, Any]]], folder: Path
) -> None:
    assert all(one.keys() == {"seconds"} for one in ended[f"{name}, resumed"]), ended
    assert "step-00000004: damaged checkpoint, not used" in (folder / name / "run.log").read_text()
    assert model_bytes(folder / name) == model_bytes(folder / plain) != {}


def gone(number: int) -> None:
    end = time.monotonic() + 20
    while (status := Path(f"/proc/{number}/stat")).exists() and status.read_text().split()[2] != "Z":
        assert time.monotonic() < end, "the other waits for ever"
        time.sleep(0.05)


def after_steps(run: Path, count: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        file = run / "metrics.jsonl"
        if file.exists() and file.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the run takes no steps")


def start(by_torchrun: bool, line: Sequence[object], *program: str) -> Any:
    """A command in two processes, by torchrun or made of this one."""
    return Launched(2, *program, *map(str, line)) if by_torchrun else Forked(2, lambda: command(*line))


def begun(folder: Path, run: Path, **more: Any) -> tuple[object, ...]:
    """The command of a run."""
    given = {"model": folder / "tiny", "data": folder / "pairs.jsonl", "output": run, "save_every": 10, **PLAIN, **more}
    return "train", "dpo", *options(given)


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
    asked: int | None, stopped: signal.Signals, killed: int, how: signal.Signals, folder: Path, tmp_path: Path
) -> None:
    """One process is asked to stop, or torchrun itself; it goes on, one is killed or frozen, and it goes on again."""
    (tmp_path / "impatient.py").write_text(TRUEUP)
    run, by_torchrun = tmp_path / "run", asked is None or how == signal.SIGSTOP
    several = start(by_torchrun, begun(folder, run), "-m", "trueup")
    after_steps(run, 5)
    os.kill(several.torchrun.pid if asked is None else several.ids[asked], stopped)
    said = several.end()
    assert said.count(f"stopped by {stopped.name}; go on with") == 1, said
    stands, step = state(run)
    assert stands == "stopped" and (run / f"checkpoints/step-{step:08d}/manifest.json").exists()
    several = start(by_torchrun, ("train", "dpo", "--resume", run), str(tmp_path / "impatient.py"))
    after_steps(run, step + 3)
    lost, other = several.ids[killed], several.ids[1 - killed]
    os.kill(lost, how)
    if how == signal.SIGSTOP:
        gone(other)
        os.kill(lost, signal.SIGKILL)  # as torchrun does after half a minute
    said = several.end()
    why = f"no sign of life of process {killed}" if how == signal.SIGSTOP else "another process ended"
    assert 0 not in several.codes and "going on after step" in said
    assert "[rank" not in said and said.count(why) == said.count("\ntrueup: ") == 1, said
    plain = settings("dpo", folder / "tiny", {"pairs": folder / "pairs.jsonl"}, tmp_path / "plain", **PLAIN)
    del plain["epochs"], plain["save_every"]
    run_all(tmp_path, 2, [("go on", {"output": str(run)}), ("dpo", plain)])
    assert model_bytes(run) == model_bytes(tmp_path / "plain")


def test_what_does_not_go_on_is_given_up_and_what_is_slow_is_not(tmp_path: Path) -> None:
    """Also where the one that is stopped keeps what all share, as the first one does without torchrun."""
    for name in ("silent", "slow"):
        os.mkfifo(tmp_path / name)

    def one(who: int, action: Callable[[], object], keeps: bool = False) -> Forked:
        def body() -> int:
            processes.BEAT, processes.SILENT = 0.1, 2.0
            try:
                with processes.joined():
                    print("joined", flush=True)
                    processes.gather(1)
                    action() if processes.rank() == who else None
                    processes.gather(2)
                    print("done", flush=True)
            except LostProcess as error:
                print("" if error.shown_elsewhere else f"trueup: {error}")
                return error.exit_code
            return 0

        return Forked(2, body, keeps=keeps)

    stopped = [one(who, lambda: time.sleep(60), keeps=True) for who in range(2)]
    stuck = [one(who, (tmp_path / "silent").read_text) for who in range(2)]
    slow = [one(0, lambda: time.sleep(4)), one(1, (tmp_path / "slow").read_text)]
    with suppress(ProcessLookupError), (tmp_path / "slow").open("w") as written:
        for several in (*stopped, *stuck, *slow):
            assert [several.said.readline() for _ in range(2)] == ["joined\n"] * 2
        for who, several in enumerate(stopped):
            os.kill(several.ids[who], signal.SIGSTOP)
        for _ in range(8):
            print("a line", file=written, flush=True)
            time.sleep(0.5)
    for who, several in enumerate(stopped):
        several.processes[1 - who].join(20)
        several.processes[who].kill()
        said = several.end()
        assert several.codes[1 - who] == 1 and f"trueup: no sign of life of process {who}" in said, said
    for who, several in enumerate(stuck):
        said = several.end(20)
        assert several.codes == [1, 1] and said.count("trueup: ") == 1, said
        assert f"trueup: process {who} (" in said and "waits for a file, for 2 seconds: its disk" in said, said
    assert [several.end(20) for several in slow] == ["done\ndone\n"] * 2


@pytest.mark.parametrize(
    ("more", "said_once"),
    [({"bet": 1}, "bet is not a setting"),
     pytest.param({"beta": "x"}, "beta", marks=pytest.mark.many),
     pytest.param({"model": "nowhere"}, "nowhere", marks=pytest.mark.many),
     pytest.param({"learning_rate": "1e38", "max_grad_norm": 0}, "is not finite", marks=pytest.mark.many)],
)  # fmt: skip
def test_a_fault_that_all_meet_is_said_once(more: dict[str, Any], said_once: str, folder: Path, tmp_path: Path) -> None:
    several = start(True, begun(folder, tmp_path / "run", **more), "-m", "trueup")
    said = several.end()
    assert 0 not in several.codes and "[rank" not in said, said
    lines = [line for line in said.splitlines() if line.startswith("trueup: ")]
    assert len(lines) == 1 and said_once in lines[0], said


def test_what_one_was_given_otherwise_is_named(folder: Path, tmp_path: Path) -> None:
    """Another setting, file, model or folder than the first process has, as on a machine of its own."""
    changed = (folder / "pairs.jsonl").read_text().replace("say ", "ask ")
    for number, text in enumerate(((folder / "pairs.jsonl").read_text(), changed)):
        save_tiny_model(tmp_path / f"{number}/model", seed=number)
        (tmp_path / f"{number}/pairs.jsonl").write_text(text)
    cases = {
        "learning_rate (process 0: 0.001, process 1: 0.5)": ({}, {"learning_rate": 0.5}),
        "pairs.jsonl (process 0: ": ({"data": "pairs.jsonl"}, {}),
        "the weights or the configuration of the model (process 0: ": ({"model": "model"}, {}),
        "process 1: run: this is not the folder that process 0 writes to": ({"output": "run"}, {}),
        "process 1: gone.jsonl": ({"data": "gone.jsonl"}, {}),
    }
    (tmp_path / "0/gone.jsonl").write_text(changed)

    def body() -> int:
        os.environ["LOCAL_RANK"] = "0"
        os.chdir(tmp_path / str(processes.rank()))
        with processes.joined():
            given = [more | (one if processes.rank() else {}) for more, one in cases.values()]
            codes = {command(*begun(folder, tmp_path / "run", **one)) for one in given}
        return codes.pop() if len(codes) == 1 else -1

    several = Forked(2, body)
    said = several.end()
    lines = [line for line in said.splitlines() if line.startswith("trueup: ")]
    assert several.codes == [InputError.exit_code] * 2 and len(lines) == len(cases), said
    assert all(why in line for why, line in zip(cases, lines, strict=True)), said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"quantize": "nf4", "lora.rank": 4}, "weights in 4 bits are not sharded; start one process"),
        ({"optimizer": "muon"}, "optimizer muon needs whole matrices"),
        ({"compile": True}, "compile works in one process"),
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
        check_inputs(resolve("dpo", overrides=values).settings)
