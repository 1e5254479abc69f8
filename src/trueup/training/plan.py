"""What a run will take, before anything is spent: `trueup plan`. Memory by part, time, requests, disk.

Weights, gradients, moments and the reference are counted. What a forward and backward pass holds beside them is seen
on two small micro-batches of the run's own data, tensor by tensor as each is made and given up, and goes on in a line
to `micro_batch_tokens`: attention is computed in blocks, so that nothing grows with the square of a stream. On a CPU a
micro-batch of that size is tried, where there is room, for what the C library keeps of what it is given back.
Time is that of a few steps, taken in a temporary folder.
"""

import ctypes
import math
import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trueup.annotators.budget import BYTES_A_TOKEN, Usage
from trueup.batch.stream import Batch, collate_batch
from trueup.config import resolve, run_checks
from trueup.display import duration
from trueup.models import head, lora, prepare
from trueup.references import build, reference
from trueup.settings.run_settings import RunSettings
from trueup.sources.by_name import prompts_named
from trueup.sources.online import OnlineSource
from trueup.sources.source import OfflineSource, Source, Step
from trueup.training import data, invariants, loop, rounds, setup
from trueup.training.step import Rows, Sums, forward, objective_of

SMALL = 8
"""Of the tokens of a micro-batch, the larger of two that are looked at is this part, the smaller half of it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a run holds at one time, at most, on the device it computes on."""

    weights: int
    gradients: int
    optimizer: int
    """AdamW's two moments of every weight that is trained."""
    reference: int
    """A copy of the policy or of its adapter; and one that a sampler lags behind with."""
    fixed: float
    """What a pass holds however many tokens it has: the head's buffers."""
    a_token: float
    """What it holds more with every token of the stream."""

    def total(self, tokens: int) -> float:
        """Of everything, at a micro-batch of so many tokens."""
        return self.held + self.fixed + self.a_token * tokens

    @property
    def held(self) -> int:
        """Of what is there between two passes."""
        return self.weights + self.gradients + self.optimizer + self.reference

    def largest(self, free: float) -> int:
        """The largest `micro_batch_tokens` that fits; 0 where none does."""
        return max(0, int((free - self.held - self.fixed) / max(self.a_token, 1.0)))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is on, and are still there; and the most there ever were.

    Args:
        known: tensors whose memory is not counted.
    """

    def __init__(self, known: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known = {one.untyped_storage()._cdata for one in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `TorchDispatchMode`."""
        made = function(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and (storage := one.untyped_storage())._cdata not in self._known:
                self._known.add(storage._cdata)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        return made

    def _freed(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.live -= size


def parts_held(parts: data.Parts) -> dict[str, int]:
    """Bytes of weights, gradients, optimizer and reference, each exactly."""
    network, behind = parts.policy.network, parts.reference
    weights = sum(one.nbytes for one in {id(one): one for one in parts.policy.parameters()}.values())
    trained = sum(one.nbytes for one in parts.policy.trainable().values())
    copied = 0
    if isinstance(behind, build.ModelCopy):
        copied = sum(one.nbytes for one in network.parameters())
    elif isinstance(behind, build.AdapterCopy):  # which stands among the weights
        copied = sum(one.nbytes for one in lora.factors(network, lora.REFERENCE).values())
        weights -= copied
    lagging = parts.settings.source == "online" and parts.settings.sampler.resync > 1
    return {
        "weights": weights, "gradients": trained, "optimizer": 2 * trained, "reference": copied + trained * lagging,
    }  # fmt: skip


def measured_pass(parts: data.Parts, batch: Batch[Any]) -> int:
    """Bytes of tensors that the passes of a micro-batch hold at most, beside weights and gradients."""
    models = [parts.policy, *parts.reference.models()]
    seen = LiveBytes([one for model in models for one in (*model.parameters(), *model.buffers())])
    return _passes(parts, batch, seen)


def _passes(parts: data.Parts, batch: Batch[Any], seen: LiveBytes | None = None) -> int:
    policy, method = parts.policy, parts.method
    in_loss = parts.reference if method.reference_in_loss else reference.NullReference()
    before = 0
    for _ in range(2):  # in the second the gradients are there, as in all but the first of a step
        if seen:
            before = seen.peak = seen.live
        with seen or nullcontext():
            sums = Sums()
            objective = objective_of(method, Rows(policy, in_loss, Step((batch,)), sums))
            loss = forward(policy, in_loss, objective, batch, sums, method.parts)
            loss.per_example.sum().backward()
            del loss, sums, objective
    for one in policy.trainable().values():
        one.grad = None
    return seen.peak - before if seen else 0


def memory_of(parts: data.Parts, source: Source) -> Memory:
    """What a run will hold; takes gradients, and no step."""
    groups = [group for batch in source.step(1).batches for group in batch.groups] or [*source.first_groups()]
    few = max(parts.settings.micro_batch_tokens // SMALL // 2, *(group.num_tokens for group in groups), 1)
    sizes = []
    for most in (few, 2 * few):
        batch = _batch(parts, groups, most)
        sizes.append((batch.stream.num_tokens, measured_pass(parts, batch)))
    (few, less), (many, more) = sizes
    slope = (more - less) / (many - few) if many > few else more / many
    memory = Memory(**parts_held(parts), fixed=max(0.0, more - slope * many), a_token=slope)
    budget = parts.settings.micro_batch_tokens
    if parts.policy.device.type != "cpu" or 2 * memory.total(budget) > free_memory(parts.policy.device):
        return memory
    batch = _batch(parts, groups, budget)
    kept = _kept(parts, batch, memory.fixed + slope * batch.stream.num_tokens)
    return replace(memory, fixed=kept * memory.fixed, a_token=kept * slope)


def _kept(parts: data.Parts, batch: Batch[Any], live: float) -> float:
    """How many times as much as the tensors of a pass the process holds: the C library keeps what was given back.

    1 where the system does not tell.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the most there was is what there is
        before = _resident("VmRSS")
        _passes(parts, batch)
        most = _resident("VmHWM") - before
    except (OSError, AttributeError, LookupError):
        return 1.0
    return max(1.0, (most - sum(one.nbytes for one in parts.policy.trainable().values())) / live)


def _resident(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def _batch(parts: data.Parts, groups: Sequence[Any], tokens: int) -> Batch[Any]:
    """Groups of the run, over and over, until there are as many tokens."""
    taken: list[Any] = []
    for group in cycle(groups):
        tokens -= group.num_tokens
        if taken and tokens < 0:
            break
        taken.append(group)
    return collate_batch(taken, parts.method.collate)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    lines = Path("/proc/meminfo").read_text().splitlines() if os.path.exists("/proc/meminfo") else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return found[0] if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def total_steps(settings: RunSettings, source: Source) -> int:
    """Optimizer steps of a run whose data a shorter one has read."""
    if isinstance(source, OnlineSource):
        plan = source.plan
        if settings.source == "online":
            plan = rounds.plan_of(settings, plan.prompts)
        return replace(plan, steps=settings.steps).num_steps
    assert isinstance(source, OfflineSource)
    if settings.steps is not None:
        return settings.steps
    groups = len(source.groups)
    if settings.prompts:
        groups = len(prompts_named(settings.prompts, settings, chat=settings.chat).prompts)
    return math.ceil(max(1, round((settings.epochs or 1.0) * groups)) / settings.batch_size)


def plan(resolved: resolve.Resolved, measure: int) -> Iterator[str]:
    """What a run will take, line by line.

    Args:
        measure: steps that are taken to tell the time; with 0 nothing is known of it.

    Raises:
        InputError: the configuration cannot be set up at all.
    """
    with ExitStack() as kept:
        kept.callback(torch.set_num_threads, torch.get_num_threads())
        place = Path(kept.enter_context(TemporaryDirectory(prefix="trueup-plan-")))
        elsewhere = {"output": str(place / "run")}  # where there may be a run already
        settings = run_checks.check_inputs(resolved.settings.model_copy(update=elsewhere))
        small = invariants.reduced(replace(resolved, settings=settings), place, max(1, measure), None)
        parts, record, source = invariants.set_up(small, resume=False)
        setup.choose_attention(parts, source)
        parts.reference.start(source)
        total, real = total_steps(settings, source), replace(parts, settings=settings)
        memory = memory_of(real, source)
        yield from memory_lines(memory, real)
        seconds = None
        if measure:
            seconds = _measured(replace(small, settings=parts.settings), parts, source, record)
            took = f"{total} steps of {seconds:.3g} s, the mean of {measure} that were taken"
            yield f"time         about {duration(seconds * total)}: {took}"
        yield from _gathering(settings, source, total)
        needed, told = setup.disk_needs(real, total)
        output = Path(resolved.settings.output)
        there = next(one for one in (output, *output.absolute().parents) if one.exists())
        free = shutil.disk_usage(there).free
        short = "" if needed <= free else "; THAT IS NOT ENOUGH"
        yield f"disk         {told}; {free / 1e9:.1f} GB are free{short}"


def _measured(small: resolve.Resolved, parts: data.Parts, source: Source, record: dict[str, Any]) -> float:
    """Seconds of a step; the first, in which memory is taken for the first time, counts where it is the only one."""
    found: list[float] = []
    run = setup.make_run(small, parts, source, record, resume=False)
    loop.train(run, advance=lambda done, values: found.append(run.latest["seconds"]))
    return sum(found[1:] or found) / len(found[1:] or found)


def memory_lines(memory: Memory, parts: data.Parts) -> Iterator[str]:
    """For people."""
    settings, network = parts.settings, parts.policy.inner
    tokens, device = settings.micro_batch_tokens, parts.policy.device
    free, total = free_memory(device), memory.total(tokens)
    trained = sum(one.numel() for one in parts.policy.trainable().values())
    logits = min(head.LOGITS_BUDGET, tokens * network.get_input_embeddings().num_embeddings) * 4
    enough = "" if total <= free else "; THAT IS NOT ENOUGH"
    yield f"memory       {_size(total)} at most on the {device.type}, where {_size(free)} are free{enough}"
    yield f"  weights      {_size(memory.weights):>10}   {prepare.num_parameters(parts.policy.network):,}"
    yield f"  gradients    {_size(memory.gradients):>10}   of {trained:,} weights"
    yield f"  optimizer    {_size(memory.optimizer):>10}   two moments of each"
    yield f"  reference    {_size(memory.reference):>10}   {type(parts.reference).__name__}"
    yield (
        f"  activations  {_size(total - memory.held):>10}   {tokens} tokens a pass, logits {_size(logits)} at a time"
    )
    yield f"  the largest micro_batch_tokens that fits is {memory.largest(free):,}"


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _gathering(settings: Any, source: Source, total: int) -> Iterator[str]:
    """Requests, tokens and cost of a run that has responses judged over the network."""
    if not settings.gathers:
        return
    steps_a_pass = settings.round_passes if settings.source == "online" else 1
    prompts = math.ceil(total * settings.batch_size / steps_a_pass)
    responses = settings.sampler.responses * (1 + len(settings.sampler.models))
    judge = settings.annotator
    yield f"responses    {prompts * responses:,} to {prompts:,} prompts"
    if judge.kind != "openai":
        yield f"judged by    {judge.kind}; the time of judges that are asked over the network is not in the forecast"
        return
    pairs = responses * (responses - 1) // 2
    known = [group for group in source.first_groups()]
    longest = settings.sampler.max_new_tokens or invariants.NEW_TOKENS
    question = sum(len(group.prompt) for group in known) / len(known) + 2 * longest + 600 // BYTES_A_TOKEN
    requests = 2 * pairs * prompts
    usage = Usage(requests, int(requests * question), requests * (judge.max_answer_tokens or 1))
    cost = (
        usage.question_tokens * (judge.input_price or 0) + usage.answer_tokens * (judge.output_price or 0)
    ) / 1e6
    yield f"judge        {replace(usage, cost=cost)} at most, in both orders; nothing of it was asked for this"
