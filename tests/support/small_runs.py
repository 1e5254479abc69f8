"""Small runs for tests: feedback files of every kind, and runs in a process of their own that can be killed."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

WORDS = ("red", "blue", "green", "seven", "cat", "dog", "tree", "stone")


def write_feedback(folder: Path, count: int = 24, seed: int = 0, *, easy: bool = False) -> dict[str, Path]:
    """One file of each kind of feedback; good responses repeat the prompt's word, bad ones do not.

    Args:
        easy: good and bad are the same for every prompt, which a model learns in a few steps.
    """
    chance = random.Random(seed)
    kinds = ("pairs", "rankings", "points", "mixed", "demonstrations")
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for number in range(count):
        word, other = chance.sample(WORDS, 2)
        prompt = f"say {word} {number}:"
        good, bad, worse = f" {word}", f" {other}", f" {other} {other}"
        if easy:
            good, bad, worse = " yes", " no", " no no"
        rows["pairs"].append({"prompt": prompt, "chosen": good, "rejected": bad})
        rows["rankings"].append({"prompt": prompt, "responses": [bad, good, worse], "scores": [0.5, 1.0, 0.0]})
        rows["demonstrations"].append({"prompt": prompt, "completion": good})
        liked = number % 2 == 0
        rows["points"].append({"prompt": prompt, "completion": good if liked else bad, "label": liked})
        mixed: dict[str, Any] = {"prompt": prompt, "responses": [{"content": good, "demonstration": True}]}
        if number % 2:
            mixed["responses"] = [{"content": bad, "label": 0.0}]
        rows["mixed"].append(mixed)
    paths = {}
    for kind, content in rows.items():
        paths[kind] = folder / f"{kind}.jsonl"
        paths[kind].write_text("".join(json.dumps(row) + "\n" for row in content))
    return paths


KIND = {
    **dict.fromkeys(("simpo", "cpo", "orpo", "dpo-positive", "ld-dpo", "f-dpo", "wpo", "exo"), "pairs"),
    **dict.fromkeys(("apo-zero", "apo-down", "nca", "sppo"), "pairs"), "bco": "points",
    **dict.fromkeys(("grpo", "pro", "rso"), "rankings"), **dict.fromkeys(("nash-md", "xpo"), "pairs"),
    "ca": "points", "dpo": "pairs", "fa": "rankings", "ipo": "pairs", "kto": "points", "oaif": "pairs",
    "paired-kto": "pairs", "pointwise-dpo": "points", "ppo": "rankings", "reinforce": "rankings",
    "reward-model": "pairs", "rloo": "rankings", "robust-dpo": "pairs", "rrhf": "rankings", "rwr": "points",
    "sft": "demonstrations", "slic": "pairs", "slic-hf": "pairs", "tr-dpo": "pairs", "tr-ipo": "pairs",
    "tr-kto": "points", "ulma": "mixed", "unlikelihood": "points",
}  # fmt: skip
"""The feedback file that suits each method."""


def first_of_each_kind() -> list[str]:
    """A method of each kind: all of one are the same but for the loss of a micro-batch."""
    from trueup.methods import METHODS
    from trueup.objectives.loss import StepObjective

    found: dict[Any, str] = {}
    for name in ("dpo", *METHODS):
        made = METHODS[name].build()
        measured = made.objective.measurement if isinstance(made.objective, StepObjective) else None
        read = (
            made.view, made.collate, made.reference, made.transforms, made.stratum, made.output, made.parts,
        )  # fmt: skip
        found.setdefault(str((*read, len(made.checks), made.rollout, measured)), name)
    return list(found.values())


def settings(method: str, model: Path, data: Mapping[str, Path], output: Path, **more: Any) -> dict[str, Any]:
    """Settings of a run of 12 steps that takes a second."""
    return {
        "model": str(model), "data": [str(data[KIND[method]])], "output": str(output), "batch_size": 4,
        "epochs": 2, "learning_rate": 3e-3, "save_every": 3, "keep_checkpoints": 2, "seed": 1, **more,
    }  # fmt: skip


def run_here(method: str, values: Mapping[str, Any]) -> Any:
    """A whole run in this process."""
    from trueup.config.resolve import resolve
    from trueup.training import api

    return api.run(resolve(method, overrides=values), quiet=True)


def start_child(method: str, values: Mapping[str, Any] | None, resume: Path | None = None) -> Any:
    """Begin a run, or go on with one, in a child process that shares the imports of this one."""

    def body() -> None:
        import torch

        from trueup.errors import Stopped
        from trueup.training import api

        torch.set_num_threads(1)
        try:
            if resume is not None:
                api.resume(resume, quiet=True)
            else:
                assert values is not None
                run_here(method, values)
        except Stopped:
            os._exit(0)
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    return child


def in_child(body: Callable[[], int | None], errors: Path | None = None, seconds: float = 600) -> int:
    """The exit code of a function run in a child process that shares the imports of this one.

    Args:
        errors: file for what it writes to the standard error.
        seconds: after them it is killed.
    """

    # A pipe and not the file itself: tests make files too small to be written to.
    reads, writes = os.pipe()

    def child() -> None:
        import torch

        torch.set_num_threads(1)
        sys.stderr = os.fdopen(writes, "w", buffering=1)
        os._exit(body() or 0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    os.close(writes)
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    with os.fdopen(reads, errors="replace") as said:
        text = said.read()
    process.join()
    timer.cancel()
    if errors is not None:
        errors.write_text(text)
    assert process.exitcode is not None
    return process.exitcode


def command(*arguments: object) -> int:
    """The exit code of the command line, run in this process."""
    from trueup.cli.app import run

    return run([str(argument) for argument in arguments])


def options(values: Mapping[str, Any]) -> list[str]:
    """Settings as command-line options."""
    return [
        text
        for name, value in values.items()
        for one in (value if isinstance(value, list) else [value])
        for text in (f"--{name}", str(one))
    ]


class Killed(BaseException):
    """Stands for SIGKILL where nothing but the order of writes matters: no handler of errors sees it."""


@contextmanager
def at_step(number: int, act: Callable[[Any], object]) -> Iterator[None]:
    """Have something done right before an optimizer step of the runs of this process, given the policy."""
    from unittest.mock import patch

    from trueup.training import loop

    original = loop.train_step

    def train_step(policy: Any, *arguments: Any, step: int, **more: Any) -> Any:
        if step == number:
            act(policy)
        return original(policy, *arguments, step=step, **more)

    with patch.object(loop, "train_step", train_step):
        yield


def break_off(method: str, values: Mapping[str, Any], before_step: int) -> None:
    """A run in this process that ends without warning before an optimizer step."""

    def kill(policy: Any) -> None:
        raise Killed

    with at_step(before_step, kill), suppress(Killed):
        run_here(method, values)


def kill_after(child: Any, output: Path, lines: int, delay: float, number: int = signal.SIGKILL) -> bool:
    """Signal a child `delay` seconds after its metrics have `lines` lines; False when it was done before."""
    metrics = output / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while child.is_alive() and time.monotonic() < deadline:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= lines:
            time.sleep(delay)
            break
        time.sleep(0.002)
    if not child.is_alive():
        return False
    os.kill(child.pid, number)
    child.join()
    return True


def is_done(output: Path) -> bool:
    """Whether a run has come to its end, by its own word: it may be killed between its last write and its exit."""
    status = output / "status.json"
    return status.exists() and json.loads(status.read_text())["state"] == "done"


def killed_and_resumed(
    method: str, values: Mapping[str, Any], chance: random.Random, first: tuple[int, int],
    second: tuple[int, int] | None = None,
) -> Path:  # fmt: skip
    """The folder of a run that got SIGKILL at a random moment, or a resumed one's once more, and then came to its end.

    Args:
        first, second: the fewest and the most lines of metrics that there are when it is killed.
    """
    output = Path(values["output"])
    child = start_child(method, values)
    kill_after(child, output, lines=chance.randint(*first), delay=chance.uniform(0, 0.03))
    for again in (second, None) if second else (None,):
        if is_done(output):
            break
        begun = (output / "run.yaml").exists()  # else there is nothing to resume
        child = start_child(method, None if begun else values, resume=output if begun else None)
        if again:
            kill_after(child, output, lines=chance.randint(*again), delay=chance.uniform(0, 0.03))
        child.join()
    assert is_done(output)
    return output


@contextmanager
def snapshot(output: Path, copy: Path, lines: int, looks: int, file: str = "metrics.jsonl") -> Iterator[None]:
    """Copy a folder in the runs of this process: what SIGKILL would leave at that moment, for less than a process.

    Args:
        output: of a run; the folder it lies in is copied.
        lines, looks: at the n-th look at the stop flag from that many lines of `file` on.
    """
    from unittest.mock import patch

    from trueup import stop

    original, written = stop.check, output / file

    def check() -> None:
        nonlocal looks
        if looks and written.exists() and written.read_bytes().count(b"\n") >= lines:
            looks -= 1
            if not looks:
                shutil.copytree(output.parent, copy)
        original()

    with patch.object(stop, "check", check):
        yield
    assert not looks


TIMES = ("seconds", "tokens_per_second")


def metrics_of(output: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what the clock says."""
    lines = rows_of(output / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def losses(output: Path, name: str = "loss") -> list[float]:
    return [line[name] for line in metrics_of(output) if name in line]


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def model_bytes(output: Path) -> dict[str, bytes]:
    """The finished model's weight files."""
    return {path.name: path.read_bytes() for path in sorted((output / "model").glob("*.safetensors"))}


def stopping_at(monkeypatch: Any, number: int) -> list[int]:
    """Have the n-th look at the stop flag find a signal; a list that grows by one with every look."""
    from trueup import stop
    from trueup.errors import Stopped

    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        if len(looks) == number:
            raise Stopped("SIGTERM")

    monkeypatch.setattr(stop, "check", check)
    return looks
