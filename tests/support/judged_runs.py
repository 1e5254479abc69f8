"""Small runs of the command line that an endpoint judges, and what that endpoint was asked."""

from pathlib import Path
from typing import Any

from support.online_runs import write_prompts
from support.small_runs import command, options


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
