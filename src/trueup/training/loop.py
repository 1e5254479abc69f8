"""The loop: steps, evaluations, checkpoints. It knows no method and no kind of feedback."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from trueup import display, errors, stop, words
from trueup.metrics import FIGURES, GREATER, Metrics, label
from trueup.parallel import processes, sharding
from trueup.references.reference import NullReference, Reference, State
from trueup.settings.run_settings import RunSettings
from trueup.sources.source import Source, Step
from trueup.training import checkpoint as checkpoints
from trueup.training.data import Parts
from trueup.training.optimizer import Optimizer
from trueup.training.step import TooLarge, evaluate, train_step
from trueup.training.watch import Watch

SHOWN = ("online/score", "score", "wins", "sequence_kl", "words")
KEPT = 2  # checkpoints of a run that goes on, unless it is set: the newest one may turn out to be damaged
EXTREME = {True: "greatest", False: "least"}


@dataclass
class Best:
    """The best step of a run, by a metric; all but its settings is in every checkpoint.
    Held-out metrics are those of the weights after a step. The score of samples is that of the weights which wrote
    them, those before the step that learns from them."""

    metric: str
    patience: int | None  # measurements in a row without a better one after which the run ends; None never ends it
    values: dict[str, float] = field(default_factory=dict)  # metrics of the best step; empty before there is one
    step: int | None = None
    last: int = -1
    stale: int = 0

    @classmethod
    def of(cls, settings: RunSettings) -> "Best | None":
        return cls(settings.best_by, settings.early_stopping) if settings.best_by else None

    @property
    def extreme(self) -> str:
        return EXTREME[FIGURES[self.metric.removeprefix("eval_")][1] == GREATER]

    @property
    def over(self) -> bool:
        return self.patience is not None and self.stale >= self.patience

    def see(self, step: int, values: Mapping[str, float]) -> bool:
        """Whether the weights after a step are the best so far, by what was measured of them; a step counts once."""
        value = values.get(self.metric)
        if value is None or step <= self.last:
            return False
        known = self.values.get(self.metric)
        greater = self.extreme == EXTREME[True]
        better = value == value if known is None else value > known if greater else value < known
        self.last = step
        if not better:
            self.stale += 1
            return False
        self.step, self.values, self.stale = step, dict(values), 0
        return True

    def state(self) -> dict[str, Any]:
        return asdict(self)

    def restore(self, state: Mapping[str, Any]) -> None:
        self.step, self.last, self.stale = state["step"], int(state["last"]), int(state["stale"])
        self.values = dict(state["values"])

    def told(self) -> str:
        return f"the {self.extreme} {self.metric} is {self.values[self.metric]:.6g}, after step {self.step}"


@dataclass
class Run:
    """Everything a run moves or writes."""

    parts: Parts
    source: Source
    optimizer: Optimizer
    learning_rate: Callable[[int], float]
    metrics: Metrics
    seal: str  # hash of all that decides how the run ends
    watch: Watch
    step: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    random_state: dict[str, torch.Tensor] = field(default_factory=dict)
    """Of the generators as they were when the last step ended, its reference told of it or not."""
    update_pending: bool = False  # whether the reference has still to be told of the last step
    memory: dict[str, torch.Tensor] = field(default_factory=dict)  # what the method remembers of the steps before
    best: Best | None = None  # where a metric says which step is best

    @property
    def over(self) -> bool:
        return self.best is not None and self.best.over

    @property
    def total(self) -> int:
        return self.source.num_steps

    @property
    def save_every(self) -> int:
        """Steps between checkpoints; the last step has one too."""
        return self.parts.settings.save_every or -(-self.total // 10)

    @property
    def loss_reference(self) -> Reference:
        """The reference as the objective sees it: absent where it is for the rewards alone."""
        method = self.parts.method
        unused = not method.reference.measures or not method.reference_in_loss
        return NullReference() if unused else self.parts.reference

    def shown(self, prefix: str = "") -> dict[str, float]:
        """The method's figures by their short names, those there are; `eval_` for those of held-out feedback."""
        names = [f"{prefix}{name}" for name in dict.fromkeys((*self.parts.method.figures, *SHOWN))]
        return {label(name): self.latest[name] for name in names if name in self.latest}


def train(run: Run, *, advance: Callable[[int, Mapping[str, float]], None]) -> dict[str, float]:
    """Take the run from where it is to its end; returns the last values of every metric.
    Stopped, AnnotatorError and InputError (the feedback for the next step cannot be had) leave a checkpoint from which
    the run goes on bit for bit."""
    run.latest = dict(run.metrics.latest)
    run.random_state = random_state()
    if _evaluation_due(run):
        _evaluate(run)  # the run was stopped between the step and its evaluation, or begins
    while run.step < run.total and not run.over:
        ended: Exception | None = None
        try:
            stop.check_together()
            _take_step(run)
            if _evaluation_due(run):
                _evaluate(run)
        except (errors.Stopped, errors.AnnotatorError, errors.InputError) as error:
            if not processes.agreed(error):
                raise
            ended = error  # the cause lies outside the run, which can be resumed
        due = _due(run.save_every, run) or run.step == run.total or run.over
        if due or ended is not None:
            save_run(run)
        if ended is not None:
            raise ended
        if due:
            run.parts.folder.write_status("running", run.step, run.total)
        advance(run.step, run.shown())
    if run.over and run.best:
        words.logger.info(
            f"the run ends after step {run.step} of {run.total}: {run.best.told()}, and the {run.best.stale} "
            "measured since are no better"
        )
    return run.latest


def _take_step(run: Run) -> None:
    started, number = time.monotonic(), run.step + 1
    rate = run.learning_rate(number)
    step = run.source.step(number)
    gathered = run.source.metrics(number)
    _look(run, gathered)
    if run.over:
        return
    values: dict[str, float] = {}
    if step.batches:
        values = _learn(run, number, step, rate)
    run.step, run.random_state, run.update_pending = number, random_state(), True
    values |= gathered
    moved = True  # or half of it, when the user asks to stop, which is made up for by `restore_run`
    try:
        moved = run.parts.reference.update(number, run.source)
        run.random_state, run.update_pending = random_state(), False  # a move may draw numbers too
    finally:
        seconds = time.monotonic() - started
        tokens = step.tokens
        values |= {
            "learning_rate": rate, "epoch": run.source.epoch(number), "reference/moved": float(moved),
            "tokens": float(tokens), "tokens_per_second": tokens / max(seconds, 1e-9), "seconds": seconds,
        }  # fmt: skip
        run.latest |= values
        for trouble in run.watch.look(number, values):
            words.logger.warning(f"step {number}: {trouble}")
        if number % run.parts.settings.log_every == 0 or number == run.total:
            run.metrics.write(number, values)


def _learn(run: Run, number: int, step: Step, rate: float) -> dict[str, float]:
    """One optimizer step; where memory runs out it is made again of smaller micro-batches, as are all after it."""
    parts, before = run.parts, random_state()
    while True:
        memory = dict(run.memory)
        try:
            values = train_step(
                parts.policy, run.loss_reference, parts.method, step, run.optimizer, step=number, learning_rate=rate,
                memory=memory,
            )  # fmt: skip
        except TooLarge as error:
            lacking = str(error)
        else:
            run.memory = memory
            return values
        own = (one.stream.num_tokens for one in step if len(one.groups) > 1)
        tokens = max(processes.gather(max(own, default=0)))
        if not tokens:
            why = (
                f"step {number}: memory ran out ({lacking}), and one group a pass is the least. Give a smaller "
                "--micro_batch_tokens or --max_length, --gradient_checkpointing true or --lora true"
            )
            raise processes.shared(errors.InputError(why))
        run.source.batching.budget = tokens // 2
        words.logger.warning(
            f"step {number}: memory ran out ({lacking}); the step is made again, and from here on a forward pass has "
            f"at most {tokens // 2} tokens"
        )
        torch.cuda.empty_cache()
        _restore_random_state(before)
        step = run.source.step(number)


def save_run(run: Run) -> None:
    state = run.parts.reference.state()
    parts: dict[str, Mapping[str, torch.Tensor]] = {
        "policy": dict(run.optimizer.parameters), "optimizer": run.optimizer.state(),
        "reference": state.tensors, "random": _of_all(run.random_state),
    }  # fmt: skip
    gathered = run.source.state()
    if gathered.tensors:
        parts["source"] = gathered.tensors
    if run.memory:
        parts["memory"] = run.memory
    metadata = {
        "reference": dict(state.metadata), "source": dict(gathered.metadata),
        "update_pending": run.update_pending, "sealed": run.seal,
        "best": run.best.state() if run.best else None, "watch": run.watch.state(),
        "metrics": run.metrics.lines, "budget": run.source.batching.budget,
    }  # fmt: skip
    checkpoints.save(
        run.parts.folder.checkpoints, checkpoints.Checkpoint(run.step, parts, metadata),
        keep=run.parts.settings.keep_checkpoints or KEPT, best=run.best.step if run.best else None,
    )  # fmt: skip


def restore_run(run: Run, saved: checkpoints.Checkpoint) -> None:
    run.parts.reference.restore(State(saved.parts["reference"], saved.metadata["reference"]))
    sharding.fill(run.optimizer.parameters, saved.parts["policy"])
    run.optimizer.restore(saved.parts["optimizer"])
    run.source.batching.budget = saved.metadata.get("budget", run.source.batching.budget)
    run.source.restore(State(saved.parts.get("source", {}), saved.metadata.get("source", {})))
    _restore_random_state(saved.parts["random"])
    run.memory |= saved.parts.get("memory", {})
    run.step = saved.step
    run.watch.restore(saved.metadata["watch"])
    run.metrics.expect(saved.metadata.get("metrics", 0))
    if run.best and saved.metadata.get("best"):
        run.best.restore(saved.metadata["best"])
    if saved.metadata["update_pending"]:
        run.parts.reference.update(run.step, run.source)


def take_best(run: Run) -> tuple[int, Mapping[str, float]]:
    """Put the policy back to the best step, if that is wanted; the step whose weights it has now, and its metrics."""
    best, last = run.best, (run.step, run.latest)
    if best is None or best.step in (None, run.step) or not run.parts.settings.keep_best:
        return last
    assert best.step is not None
    try:
        saved = checkpoints.load_step(run.parts.folder.checkpoints, best.step)
    except (errors.InputError, errors.CheckpointError) as error:
        words.logger.warning(f"the model is that of the last step, as the best one is lost: {error}")
        return last
    sharding.fill(run.optimizer.parameters, saved.parts["policy"])
    words.logger.info(f"the finished model is that of step {best.step}: {best.told()}")
    return best.step, best.values


def _look(run: Run, values: Mapping[str, float]) -> None:
    """Keep the weights as they are if what was measured of them is the best so far."""
    if run.best and run.best.see(run.step, values) and run.parts.settings.keep_best:
        save_run(run)


def _evaluation_due(run: Run) -> bool:
    known = run.step in run.metrics.evaluated
    if known and run.best and run.best.last < run.step:
        known = not run.best.metric.startswith("eval_")  # saved before the evaluation was made
    if not run.step:
        return run.parts.sampled is not None and not known
    if not (run.source.has_held_out or run.parts.sampled) or known:
        return False
    return run.step == run.total or _due(run.parts.settings.eval_every, run)


def _evaluate(run: Run) -> None:
    values: dict[str, float] = {}
    if run.source.has_held_out and run.step:
        with run.parts.policy.without_dropout():
            values |= evaluate(
                run.parts.policy, run.loss_reference, run.parts.method, run.source.held_out(), step=run.step,
                memory=run.memory,
            )  # fmt: skip
    if run.parts.sampled:
        values |= run.parts.sampled.measure(run.step)
    if run.step not in run.metrics.evaluated:
        run.metrics.write(run.step, values)
    run.latest |= values
    told = "  ".join(f"{name} {display.figure(value)}" for name, value in run.shown("eval_").items())
    words.logger.info(f"held out, after step {run.step}: {told}")
    if run.step:
        _look(run, values)


def _due(every: int | None, run: Run) -> bool:
    return bool(every and run.step % every == 0)


def random_state() -> dict[str, torch.Tensor]:
    """Of the generators that dropout draws from."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _of_all(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random states of all processes; those of the first under plain names."""
    every = processes.gather(dict(state))
    return {
        f"{number}.{key}" if number else key: value for number, one in enumerate(every) for key, value in one.items()
    }


def _restore_random_state(state: Mapping[str, torch.Tensor]) -> None:
    own = f"{processes.rank()}." if processes.rank() else ""
    torch.set_rng_state(state.get(f"{own}cpu", state["cpu"]))
    if "cuda" not in state:
        return
    if torch.cuda.is_available():
        torch.cuda.set_rng_state(state.get(f"{own}cuda", state["cuda"]))
    else:
        words.logger.warning(
            "the run began on a GPU and goes on without one: not bit for bit the same, and with dropout from other "
            "random numbers"
        )
