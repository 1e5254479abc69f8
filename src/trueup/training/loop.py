"""The loop: steps, evaluations, checkpoints. It knows no method and no kind of feedback."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from trueup.display import Advance
from trueup.errors import AnnotatorError, InputError, Stopped
from trueup.methods.method import Method
from trueup.models.causal import StreamModel
from trueup.references.choices import NoReference
from trueup.references.reference import NullReference, Reference, State
from trueup.sources.source import Source
from trueup.training import checkpoint as checkpoints
from trueup.training.checkpoint import Checkpoint
from trueup.training.folder import RunFolder
from trueup.training.metrics import Metrics
from trueup.training.optimizer import Optimizer
from trueup.training.step import evaluate, train_step


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things happen, in optimizer steps; 0 is never."""

    eval_every: int
    save_every: int
    log_every: int
    keep: int


@dataclass
class Run:
    """Everything a run moves or writes."""

    policy: StreamModel
    reference: Reference
    method: Method[Any, Any, Any]
    source: Source
    optimizer: Optimizer
    learning_rate: Callable[[int], float]
    folder: RunFolder
    metrics: Metrics
    pace: Pace
    step: int = 0
    """Optimizer steps done."""

    @property
    def total(self) -> int:
        return self.source.num_steps

    @property
    def loss_reference(self) -> Reference:
        """The reference as the objective sees it: absent where it is for the rewards alone."""
        unused = isinstance(self.method.reference, NoReference) or not self.method.reference_in_loss
        return NullReference() if unused else self.reference


def train(run: Run, *, poll: Callable[[], None], advance: Advance) -> dict[str, float]:
    """Take the run from where it is to its end.

    Args:
        poll: raises Stopped when the user asked to stop.
        advance: shows progress.

    Returns:
        The last values of every metric.

    Raises:
        Stopped: after a checkpoint was written from which the run goes on bit for bit.
        AnnotatorError, InputError: the same; the feedback for the next step cannot be had.
        NumericsError, CheckpointError: as its parts raise them.
    """
    latest = dict(run.metrics.latest)
    if run.step and _evaluation_due(run):
        latest |= _evaluate(run, poll)  # the run was stopped between the step and its evaluation
    while run.step < run.total:
        random_state = _random_state()
        started = time.monotonic()
        try:
            poll()
            batches = run.source.batches(run.step + 1)
            values = train_step(
                run.policy, run.loss_reference, run.method, batches, run.optimizer,
                step=run.step + 1, learning_rate=run.learning_rate(run.step + 1),
                mismatched=run.source.mismatched(run.step + 1), poll=poll,
            ) if batches else {}  # fmt: skip
        except (Stopped, AnnotatorError, InputError):  # what gathers can be mended, and the run go on
            save(run, random_state)
            raise
        run.step += 1
        values |= run.source.metrics(run.step)
        stopped: Stopped | None = None
        try:
            moved = run.reference.update(run.step, run.source)
        except Stopped as error:  # while it moved, which is made up for by `restore`
            moved, stopped = True, error
        seconds = time.monotonic() - started
        tokens = sum(batch.stream.num_tokens for batch in batches)
        values |= {
            "learning_rate": run.learning_rate(run.step),
            "epoch": run.source.epoch(run.step),
            "reference/moved": float(moved),
            "tokens": float(tokens),
            "tokens_per_second": tokens / max(seconds, 1e-9),
            "seconds": seconds,
        }
        latest |= values
        if run.step % run.pace.log_every == 0 or run.step == run.total:
            run.metrics.write(run.step, values)
        if stopped is not None:
            save(run, _random_state(), update_pending=True)
            raise stopped
        if _evaluation_due(run):
            try:
                latest |= _evaluate(run, poll)
            except Stopped:
                save(run, _random_state())
                raise
        if _due(run.pace.save_every, run) or run.step == run.total:
            save(run, _random_state())
            run.folder.write_status("running", run.step, run.total)
        advance(run.step, latest)
    return latest


def save(run: Run, random_state: dict[str, torch.Tensor], *, update_pending: bool = False) -> None:
    """Write a checkpoint of the run as it stands after `run.step` steps.

    Args:
        random_state: of the generators as they were when that step ended.
        update_pending: the reference has still to be told of the last step.
    """
    state = run.reference.state()
    parts: dict[str, Mapping[str, torch.Tensor]] = {
        "policy": dict(run.optimizer.parameters),
        "optimizer": run.optimizer.state(),
        "reference": state.tensors,
        "random": random_state,
    }
    gathered = run.source.state()
    if gathered.tensors:
        parts["source"] = gathered.tensors
    facts = {
        "reference": dict(state.facts),
        "source": dict(gathered.facts),
        "update_pending": update_pending,
    }
    checkpoints.save(run.folder.checkpoints, Checkpoint(run.step, parts, facts), keep=run.pace.keep)


def restore(run: Run, saved: Checkpoint) -> None:
    """Put a run back to a checkpoint."""
    with torch.no_grad():
        for name, parameter in run.optimizer.parameters.items():
            parameter.copy_(saved.parts["policy"][name])
    run.optimizer.restore(saved.parts["optimizer"])
    run.reference.restore(State(saved.parts["reference"], saved.facts["reference"]))
    run.source.restore(State(saved.parts.get("source", {}), saved.facts.get("source", {})))
    torch.set_rng_state(saved.parts["random"]["cpu"])
    if "cuda" in saved.parts["random"]:
        torch.cuda.set_rng_state(saved.parts["random"]["cuda"])
    run.step = saved.step
    if saved.facts["update_pending"]:
        run.reference.update(run.step, run.source)


def _evaluation_due(run: Run) -> bool:
    if not run.source.has_held_out or run.step in run.metrics.evaluated:
        return False
    return run.step == run.total or _due(run.pace.eval_every, run)


def _evaluate(run: Run, poll: Callable[[], None]) -> dict[str, float]:
    """Held-out metrics under the policy as it is, without dropout."""
    with run.policy.without_dropout():
        values = evaluate(
            run.policy, run.loss_reference, run.method, run.source.held_out_batches(), run.step,
            mismatched=run.source.held_out_mismatched(), poll=poll,
        )  # fmt: skip
    run.metrics.write(run.step, values)
    return values


def _due(every: int, run: Run) -> bool:
    return bool(every) and run.step % every == 0


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state
