"""metrics.jsonl: one line a step, always, and the trackers beside it that may fail without stopping a run.
And what people are told of a metric: a short name, and whether more of it is better.
A tracker is one entry of `TRACKERS`, whose package is imported where it is used."""

import importlib
import importlib.util
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup import errors, files, words
from trueup.parallel.processes import owns

WANDB = "wandb.id"


GREATER, LESS = "greater", "less"
FIGURES: dict[str, tuple[str, str, str]] = {
    "loss": ("loss", LESS, "what is made small"),
    "loss/policy": ("policy", "", ""), "loss/value": ("value", LESS, ""),
    "loss/rank": ("rank", LESS, ""), "loss/sft": ("sft", LESS, ""),
    "rewards/accuracies":
        ("acc", GREATER, "share of pairs whose chosen response has the higher reward; equal ones count as wrong"),
    "rewards/margins": ("margin", GREATER, "reward of chosen responses above that of rejected ones"),
    "rewards/chosen":
        ("chosen", GREATER, "reward of chosen responses; where it is beta times the log-ratio, 0 is the reference"),
    "rewards/rejected": ("rejected", "", "the same of rejected ones"),
    "logps/chosen": ("chosen", GREATER, "log-probability of chosen responses, nats a response"),
    "logps/rejected": ("rejected", "", "the same of rejected ones"),
    "logps/demonstrations": ("logp", GREATER, "log-probability of demonstrations, nats a response"),
    "kl": ("kl", "", "log-ratio to the reference, nats a response; of samples an estimate of the KL divergence"),
    "objective/kl": ("kl", "", "KL divergence of samples to the reference, nats a response"),
    "grad_norm": ("grad", "", ""), "weights/effective_share": ("share", "", ""),
    "policy/approxkl": ("moved", "", ""), "policy/clipfrac": ("clipped", "", ""),
    "online/score": ("score", GREATER, "mean score of sampled responses"),
    "online/words": ("words", "", "words of a sampled response"),
    "online/distinct": ("distinct", "", "share of different texts among sampled responses"),
    "score": ("score", GREATER, "mean score of what is written to held-out prompts (eval_prompts)"),
    "wins": ("wins", GREATER, "how often that is better than what the start model wrote, a tie by half"),
    "sequence_kl": ("kl to start", "", "its sequence KL from the start model, nats a response"),
    "words": ("words", "", "its words"),
}  # fmt: skip
"""Metric -> its name beside the bar; whether a model is better with a greater or a lesser value, empty where neither
is so, as of a KL divergence; and, of those that a report lists, what it is."""


def label(name: str) -> str:
    bare = name.removeprefix("eval_")
    return FIGURES[bare][0] if bare in FIGURES else bare.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Tracker:
    """A place for metrics; its failures are reported and otherwise ignored."""

    name: str
    log: Callable[[int, Mapping[str, float]], None]
    close: Callable[[], None]


def _tensorboard(folder: Path, run_name: str, settings: Mapping[str, Any], step: int) -> Tracker:
    """Event files in RUN/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter

    # A resumed run writes the steps after its checkpoint again.
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def log(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return Tracker("tensorboard", log, writer.close)


def _module(name: str, run_name: str, settings: Mapping[str, Any], **more: Any) -> Tracker:
    """W&B, and trackio which speaks its dialect: `init`, `log`, `finish`."""
    module = importlib.import_module(name)
    module.init(project="trueup", name=run_name, config=dict(settings), **more)
    return Tracker(name, lambda step, values: module.log(dict(values), step=step), module.finish)


def _wandb(folder: Path, run_name: str, settings: Mapping[str, Any], step: int) -> Tracker:
    """W&B knows a run by its id, which is kept in the run's folder so that a resumed run goes on with its own."""
    file = folder / WANDB
    if not file.exists():
        with files.replaced_file(file) as opened:
            opened.write(f"{uuid.uuid4().hex[:12]}\n".encode())
    number = file.read_text(encoding="utf-8").strip()
    return _module("wandb", run_name, settings, dir=str(folder), id=number, resume="allow")


def _trackio(folder: Path, run_name: str, settings: Mapping[str, Any], step: int) -> Tracker:
    return _module("trackio", run_name, settings, **({"resume": "allow"} if step else {}))


TRACKERS: dict[str, Callable[[Path, str, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio
}  # fmt: skip
"""Name of a tracker and of its package -> what opens it, told the run's folder, name, settings and steps so far."""


def check_installed(names: tuple[str, ...]) -> None:
    """Refuse a tracker whose package is missing, before any work is done."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise errors.InputError(
                f"tracker {name} needs the package {name}, which is not installed. Install trueup[{name}], or leave "
                "the tracker out: metrics.jsonl is always written"
            )


def open_trackers(
    names: tuple[str, ...], folder: Path, run_name: str, settings: Mapping[str, Any], step: int
) -> list[Tracker]:
    """Start the trackers asked for, after `step` steps; one that cannot start is reported and left out."""
    opened = []
    for name in names:
        try:
            opened.append(TRACKERS[name](folder, run_name, settings, step))
        except Exception as error:  # a service that is down, an account that is missing
            words.logger.warning(f"tracker {name} could not start and is left out: {error}")
    return opened


class Metrics:
    """Writes metrics to RUN/metrics.jsonl, and to `trackers`, of which one that fails is reported and left out.
    Lines after step `keep_until` are removed, so that a resumed run's file equals that of an uninterrupted one."""

    def __init__(self, path: Path, *, keep_until: int) -> None:
        self.path = path
        self.trackers: list[Tracker] = []
        self.latest: dict[str, float] = {}
        self._failed = False
        self.lost: list[int] = []
        known = [line for line in read_lines(path, self.lost) if line["step"] <= keep_until]
        kept = [line for _, line in sorted({(one["step"], _evaluates(one)): one for one in known}.items())]
        self.lines = len(kept)  # that the file has
        if self.lost:
            self._warn(f"cannot be read, and are left out: {words.numbered(self.lost, 'line')}")
        self.evaluated = {line["step"] for line in kept if _evaluates(line)}
        for line in kept:
            self.latest |= {key: value for key, value in line.items() if isinstance(value, float)}
        if owns() and path.is_file():
            with files.of_run(path), files.replaced_file(path) as file:
                file.write("".join(json.dumps(line) + "\n" for line in kept).encode())

    def expect(self, lines: int) -> None:
        """Warn where lines are gone that a checkpoint knows of, and nothing was said of them."""
        if (gone := lines - self.lines - len(self.lost)) > 0:
            self._warn(f"are gone: {words.counted(gone, 'line')}")

    def _warn(self, what: str) -> None:
        words.logger.warning(f"{self.path}: metrics of earlier steps {what}; the run goes on as it would have")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a disk that is full costs the line, not the run."""
        try:
            if owns():
                files.Journal(self.path, durable=False).append(json.dumps({"step": step, **values}).encode())
                self.lines += 1
        except OSError as error:
            if not self._failed:
                words.logger.warning(f"{self.path}: metrics are not written: {words.reason(error)}; training goes on")
            self._failed = True
        if _evaluates(values):
            self.evaluated.add(step)
        for tracker in list(self.trackers):
            try:
                tracker.log(step, values)
            except Exception as error:  # whatever an outside service raises must not stop a run
                self.trackers.remove(tracker)
                words.logger.warning(f"tracker {tracker.name} failed and is left out from now on: {error}")

    def close(self) -> None:
        for tracker in self.trackers:
            try:
                tracker.close()
            except Exception as error:  # as above
                words.logger.warning(f"tracker {tracker.name} failed while closing: {error}")


def _evaluates(values: Mapping[str, float]) -> bool:
    return any(name.startswith("eval_") for name in values)


def read_lines(path: Path, lost: list[int] | None = None) -> list[dict[str, Any]]:
    """The lines of a metrics file; a torn last one is left out, and the numbers of others are added to `lost`."""
    lines = []
    for number, text in enumerate(files.Journal(path).read()[0], start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        sound = isinstance(line, dict) and all(type(value) in (int, float) for value in line.values())
        if sound and type(line.get("step")) is int:
            lines.append(line)
        elif lost is not None:
            lost.append(number)
    return lines
