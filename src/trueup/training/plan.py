"""What a run will take, before anything is spent: `trueup plan`. Memory by part, time, requests, disk.
Time is that of a few steps, taken in a temporary folder."""

import math
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from trueup.annotators.budget import BYTES_A_TOKEN, Usage
from trueup.config import resolve, run_checks
from trueup.display import duration
from trueup.models import head, prepare
from trueup.settings.run_settings import RunSettings
from trueup.sources import by_name, online
from trueup.sources.source import OfflineSource, Source
from trueup.training import data, invariants, loop, rounds, setup
from trueup.training.memory import Memory, free_memory, memory_of


def total_steps(settings: RunSettings, source: Source) -> int:
    """Optimizer steps of a run whose data a shorter one has read."""
    if isinstance(source, online.OnlineSource):
        plan = source.plan
        if settings.source == "online":
            plan = rounds.plan_of(settings, plan.prompts)
        return replace(plan, steps=settings.steps).num_steps
    assert isinstance(source, OfflineSource)
    if settings.steps is not None:
        return settings.steps
    groups = len(source.groups)
    if settings.prompts:
        groups = len(by_name.prompts_named(settings.prompts, settings, chat=settings.chat).prompts)
    return math.ceil(max(1, round((settings.epochs or 1.0) * groups)) / settings.batch_size)


def plan(resolved: resolve.Resolved, measure: int) -> Iterator[str]:
    """What a run will take, line by line. `measure` steps are taken to tell the time; with 0 nothing is known of it.
    InputError: the configuration cannot be set up at all."""
    with ExitStack() as kept:
        kept.callback(torch.set_num_threads, torch.get_num_threads())
        place = Path(kept.enter_context(TemporaryDirectory(prefix="trueup-plan-")))
        elsewhere = {"output": str(place / "run")}  # where there may be a run already
        settings = run_checks.check_inputs(resolved.settings.model_copy(update=elsewhere))
        small = invariants.reduced(replace(resolved, settings=settings), place, max(1, measure), None)
        parts, record, source = invariants.set_up(small, resume=False)
        setup.choose_attention(parts, source)
        parts.reference.start(source)
        settings = settings.model_copy(update={"micro_batch_tokens": parts.settings.micro_batch_tokens})
        total, real = total_steps(settings, source), replace(parts, settings=settings)
        groups = [group for batch in source.step(1).batches for group in batch.groups]
        memory = memory_of(real, groups or source.first_groups())
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
    of_pass = f"{tokens} tokens a pass, logits {_size(logits)} at a time"
    yield f"  activations  {_size(total - memory.held):>10}   {of_pass}"
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
    cost = (usage.question_tokens * (judge.input_price or 0) + usage.answer_tokens * (judge.output_price or 0)) / 1e6
    yield f"judge        {replace(usage, cost=cost)} at most, in both orders; nothing of it was asked for this"
