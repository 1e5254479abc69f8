"""One optimizer step: the only place that reduces a loss.
Nothing in it waits for the device until everything is on its way: losses, weights, metrics, the gradient's norm and
whether all of it is finite are added up where they are computed, and brought over together (`Sums.fetch`). How many
forward passes a step takes is known before it begins: one for each micro-batch, and those of what is measured first."""

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import torch

from trueup import errors, stop, words
from trueup.batch.rows import LogProbs, Part, Scores
from trueup.batch.stream import Batch, on_device
from trueup.methods.method import Method
from trueup.models.causal import StreamModel
from trueup.objectives.loss import Loss, StepObjective, drift, total_of
from trueup.parallel import processes, sharding
from trueup.references.reference import Reference
from trueup.sources.source import Step
from trueup.training.optimizer import Optimizer

Objective = Callable[[Any, Any, Any], Loss]
T = TypeVar("T")


class TooLarge(Exception):
    """The passes of a step found too little memory; nothing has moved. `str()` says what was asked for."""


class Expected(NamedTuple):
    values: torch.Tensor
    rows: torch.Tensor | None
    batch: Batch[Any]
    what: str


@dataclass
class Sums:
    """Sums over the micro-batches of a step or an evaluation, on the device until they are fetched."""

    totals: dict[str, torch.Tensor] = field(default_factory=dict)
    counts: dict[str, torch.Tensor] = field(default_factory=dict)
    expected: list[Expected] = field(default_factory=list)
    finite: list[torch.Tensor] = field(default_factory=list)
    lacking: str = ""
    """What was said where memory ran out in this one of several processes; the sums are then worth nothing."""

    def add(self, name: str, total: torch.Tensor, count: torch.Tensor) -> None:
        if name in self.totals:
            total, count = self.totals[name] + total, self.counts[name] + count
        self.totals[name], self.counts[name] = total, count

    def add_batch(self, loss: Loss, policy: LogProbs | Scores, reference: LogProbs | None) -> None:
        """Record a micro-batch: loss, the objective's metrics, and the log-ratio of every response.
        `kl` is the mean of log pi(y | x) - log pi_ref(y | x) over the batch's responses: an estimate of the KL
        divergence for responses drawn from the policy, and a measure of drift for any others; `drift` is the same a
        token."""
        self.add("loss", loss.per_example.detach().double().sum(), loss.weight.double().sum())
        for name, values in loss.metrics.items():
            self.add(name, *total_of(values))
        if reference is not None and isinstance(policy, LogProbs):
            self.add("kl", *total_of(policy.sum.detach().double() - reference.sum.double()))
            self.add("drift", *total_of(drift(policy, reference)))

    def expect(self, values: torch.Tensor, rows: torch.Tensor | None, batch: Batch[Any], what: str) -> None:
        """Have `fetch` refuse values that are not finite; see `check_finite`."""
        values = values.detach()
        self.expected.append(Expected(values, rows, batch, what))
        self.finite.append(values.isfinite().all())

    def fetch(self, step: int, *more: torch.Tensor) -> tuple[dict[str, float], dict[str, float], list[float]]:
        """Bring everything over in one transfer: the mean and the count of every metric that there is, and `more`.
        What should be finite and is not is looked at again only then, and refused."""
        finite = torch.stack(self.finite).all() if self.finite else torch.tensor(True)
        names, parts = list(self.totals), [finite, *self.totals.values(), *self.counts.values(), *more]
        numbers: list[float] = torch.stack([part.detach().double() for part in parts]).tolist()
        stop_totals, stop_counts = 1 + len(names), 1 + 2 * len(names)

        def own() -> tuple[dict[str, float], dict[str, float]]:
            if not numbers[0]:
                for values, rows, batch, what in self.expected:
                    check_finite(values, rows, batch, step, what)
            totals = dict(zip(names, numbers[1:stop_totals], strict=True))
            return totals, dict(zip(names, numbers[stop_totals:stop_counts], strict=True))

        every = processes.together(own)
        totals, counts = (_added([one[kind] for one in every]) for kind in (0, 1))
        means = {name: total / counts[name] for name, total in totals.items() if counts[name]}
        return means, counts, numbers[stop_counts:]


def _added(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums by name; what one alone has stays as it is."""
    if len(several) == 1:
        return dict(several[0])
    names = dict.fromkeys(name for one in several for name in one)
    return {name: sum(one[name] for one in several if name in one) for name in names}


def check_finite(values: torch.Tensor, rows: torch.Tensor | None, batch: Batch[Any], step: int, what: str) -> None:
    """Refuse values, one for each row of the batch or for each of `rows`, that are not finite; names their files."""
    bad = ~values.isfinite()
    if not bad.any():
        return
    places = bad.nonzero()[:, 0] if rows is None else rows[bad]
    origins = batch.origins
    named = sorted({str(origins[place] or "a row without origin") for place in places.tolist()})
    raise errors.NumericsError(
        f"step {step}: the {what} of {words.listed(named)} is not finite ({values[bad][0].item()}); the step was not "
        "taken and the last checkpoint is intact. Look at these rows with a lower --learning-rate in mind"
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of all micro-batches of a step, without gradients and dropout; computed where an objective asks.
    What is measured goes into the loss of every row, also of other micro-batches, so that `sums` has it first."""

    policy: StreamModel
    reference: Reference
    data: Step
    sums: Sums
    memory: MutableMapping[str, torch.Tensor] = field(default_factory=dict)
    learns: bool = True

    def indexes(self) -> Iterator[Any]:
        for batch in self.data.batches:
            if not batch.idle:
                yield on_device(batch.index, self.policy.device)

    def own(self) -> Iterator[tuple[LogProbs, LogProbs | None, Any]]:
        for batch in self.data.batches:
            made = self.kept_up(batch, self._both)
            if not batch.idle:
                yield made

    def mismatched(self) -> Iterator[tuple[LogProbs, LogProbs | None]]:
        for batch in self.data.mismatched:
            policy, reference, _ = self.kept_up(batch, self._both)
            if not batch.idle:
                yield policy, reference

    def joined(self, lines: Sequence[torch.Tensor]) -> torch.Tensor:
        return sharding.concatenated(lines)

    def kept_up(self, batch: Batch[Any], action: Callable[[Batch[Any]], T]) -> T:
        """What a pass makes; where memory has run out in this one of several processes, of the least that there is."""
        if processes.size() == 1 or not self.learns:
            return action(batch)
        spare = self.data.spare[0 if any(batch is one for one in self.data.batches) else -1]
        if self.sums.lacking:
            return action(spare)
        models = (self.policy, *self.reference.models())
        made, self.sums.lacking = sharding.kept_up(models, lambda least: action(spare if least else batch))
        return made

    @torch.no_grad()
    def _both(self, batch: Batch[Any]) -> tuple[LogProbs, LogProbs | None, Any]:
        there = batch.to(self.policy.device)
        with self.policy.without_dropout():
            log_probs = self.policy.outputs(there.stream)
        assert isinstance(log_probs, LogProbs)
        reference = self.reference.log_probs(there)
        self.sums.expect(log_probs.sum, None, batch, "log-probability")
        if reference is not None:
            self.sums.expect(reference.sum, None, batch, "log-probability under the reference")
        return log_probs, reference, there.index


def objective_of(method: Method, rows: Rows) -> Objective:
    """The method's objective for one step, with what it measures over the step already in it."""
    objective = method.objective
    return objective.given(rows) if isinstance(objective, StepObjective) else objective


def needs_mismatched(method: Method) -> bool:
    """Whether a method measures something on prompts with responses to other prompts."""
    return isinstance(method.objective, StepObjective) and method.objective.measurement.needs_mismatched


def forward(
    policy: StreamModel, reference: Reference, objective: Objective, batch: Batch[Any], sums: Sums,
    parts: Collection[Part] = (),
) -> Loss:  # fmt: skip
    """The loss of a micro-batch; it, what the policy says and what the reference says go into the sums."""
    there = batch.to(policy.device)
    reference_log_probs = reference.log_probs(there)
    if reference_log_probs is not None:
        sums.expect(reference_log_probs.sum, None, batch, "log-probability under the reference")
    outputs = policy.outputs(there.stream, parts)
    loss = objective(outputs, reference_log_probs, there.index)
    if batch.idle:
        loss = replace(loss, per_example=loss.per_example * 0.0)
    if processes.size() > 1 and torch.is_grad_enabled() and not loss.per_example.requires_grad:
        read = outputs.token_S if isinstance(outputs, LogProbs) else outputs.score_N
        loss = replace(loss, per_example=loss.per_example + 0.0 * read.sum())  # a pass back as in the others
    if batch.idle:
        return loss
    sums.expect(loss.per_example, loss.row, batch, "loss")
    sums.add_batch(loss, outputs, reference_log_probs)
    return loss


def train_step(
    policy: StreamModel, reference: Reference, method: Method, data: Step, optimizer: Optimizer, *, step: int,
    learning_rate: float, memory: MutableMapping[str, torch.Tensor] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Sum the micro-batches' gradients, divide once by the whole batch's weight, clip, and step: means of the metrics
    over the whole batch, and `grad_norm` before clipping. The result does not depend on how the batch was cut. `memory`
    is what the run remembers, which this step adds to. NumericsError: something is not finite, or there is nothing to
    learn; TooLarge: memory ran out. Nothing has moved then."""
    sums = Sums()
    optimizer.zero_grad()
    try:
        rows = Rows(policy, reference, data, sums, {} if memory is None else memory)
        objective = objective_of(method, rows)

        def add(batch: Batch[Any]) -> None:
            loss = forward(policy, reference, objective, batch, sums, method.parts)
            if loss.per_example.requires_grad:
                loss.per_example.sum().backward()

        for batch in data.batches:
            rows.kept_up(batch, add)
    except (MemoryError, RuntimeError) as error:
        if not errors.is_out_of_memory(error) or processes.size() > 1:
            raise
        sums.lacking = words.one_line(error)
    lacking = processes.gather(sums.lacking)
    if any(lacking):  # out of reach of the error, whose frames hold what filled the memory
        optimizer.zero_grad()
        number, told = next((number, told) for number, told in enumerate(lacking) if told)
        raise TooLarge(told if len(lacking) == 1 else f"process {number}: {told}")
    norm = optimizer.grad_norm()
    if norm is None:
        sums.fetch(step)
        raise errors.NumericsError(
            f"step {step}: no weight that is trained has a gradient, so the loss does not depend on any of them; the "
            "step was not taken. Look at what the method's objective returns"
        )
    means, counts, (norm_of_sum,) = sums.fetch(step, norm)
    weight = counts["loss"]
    if not weight:
        raise errors.NumericsError(f"step {step}: the batch holds nothing to learn from")
    grad_norm = norm_of_sum / weight
    if not grad_norm < float("inf"):
        names = sorted({str(one) for batch in data.batches for one in batch.origins if one is not None})
        raise errors.NumericsError(
            f"step {step}: the gradient is not finite ({grad_norm}); the step was not taken and the last checkpoint is "
            f"intact. Lower --learning-rate, or look at its rows: {words.listed(names)}"
        )
    optimizer.step(divide_by=weight, grad_norm=grad_norm, learning_rate=learning_rate)
    return {**means, "grad_norm": grad_norm}


@torch.no_grad()
def evaluate(
    policy: StreamModel, reference: Reference, method: Method, data: Step, *, step: int,
    memory: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Means of loss and metrics over held-out feedback, all of it taken as one batch, under `eval_` names."""
    sums = Sums()
    objective = objective_of(method, Rows(policy, reference, data, sums, dict(memory or {}), learns=False))
    for batch in data.batches:
        stop.check_together()
        forward(policy, reference, objective, batch, sums, method.parts)
    means, _, _ = sums.fetch(step)
    return {f"eval_{name}": value for name, value in means.items()}
