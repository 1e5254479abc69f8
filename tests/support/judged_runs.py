"""Small runs of the command line that an endpoint judges, and what that endpoint was asked."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.faulty_server import Answer, Asked
from support.judge_answers import first_with, shown, text_of
from support.online_runs import write_prompts
from support.small_runs import command, options


def variety(asked: Asked) -> Answer:
    """A sound judge: prefers the response of more different letters, by as much as it has more of them."""
    first, second = (len(set(text)) for text in shown(asked))
    return first_with(0.5 if first == second else 0.5 + (first - second) / (2 * (first + second)))


class Until:
    """Answers soundly so many times, and every request after that by a fault; knows what was answered."""

    def __init__(self, sound: int, fault: Answer | Callable[[Asked], Answer]) -> None:
        self.sound, self.fault = sound, fault
        self.answered: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Answer:
        with self._lock:
            if len(self.answered) < self.sound:
                self.answered.append(text_of(asked))
                return variety(asked)
        return self.fault(asked) if callable(self.fault) else self.fault


def judged(model: Path, folder: Path, output: Path, url: str, **more: Any) -> dict[str, Any]:
    """Options of a run of 6 steps, 4 prompts each. Where the judge may fail, the test wants `virtual_time`."""
    prompts = folder / "prompts.jsonl"
    return {
        "model": model, "prompts": prompts if prompts.exists() else write_prompts(folder), "output": output,
        "annotator": "openai", "annotator.base_url": url, "annotator.model": "J", "annotator.deadline": 30,
        "annotator.concurrency": 2, "sampler.responses": 2, "sampler.max_new_tokens": 6, "batch_size": 4, "epochs": 2,
        "learning_rate": 3e-3, "save_every": 2, "seed": 1, **more,
    }  # fmt: skip


def own(model: Path, folder: Path, output: Path, function: str, **more: Any) -> dict[str, Any]:
    """Options of a run that a function in a file of its own judges."""
    prompts = folder / "prompts.jsonl"
    return {
        "model": model, "prompts": prompts if prompts.exists() else write_prompts(folder), "output": output,
        "reward": function, "sampler.max_new_tokens": 6, "batch_size": 4, "epochs": 2, "learning_rate": 3e-3,
        "save_every": 6, "seed": 1, **more,
    }  # fmt: skip


def train(method: str, values: dict[str, Any]) -> int:
    """The exit code of `trueup train METHOD` with these options."""
    return command("train", method, *options(values))


def resume(method: str, run: Path, *more: object) -> int:
    """The exit code of `trueup train METHOD --resume RUN`."""
    return command("train", method, "--resume", run, *more)


def one_line(errors: str) -> str:
    """What a command said at its end: one line, and nothing of a traceback before it."""
    lines = errors.splitlines()
    assert "Traceback" not in errors
    assert [line for line in lines if line.startswith("trueup: ")] == lines[-1:]
    return lines[-1].removeprefix("trueup: ")
