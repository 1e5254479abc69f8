"""What a run holds in memory, by part, and the token budget that there is room for.
Weights, gradients, moments and the reference are counted. What a forward and backward pass holds beside them is seen on
two small micro-batches of the run's own data, tensor by tensor as each is made and given up, and goes on in a line to
`micro_batch_tokens`: attention is computed in blocks, so that nothing grows with the square of a stream. On a CPU a
micro-batch of that size is tried, where there is room, for what the C library keeps of what it is given back."""

import ctypes
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

from trueup.batch.stream import Batch, collate_batch
from trueup.batch.tokens import TokenGroup
from trueup.models import causal, head, lora
from trueup.references import build, reference
from trueup.sources.source import Source, Step
from trueup.training import data, step
from trueup.training.optimizer import by_muon, bytes_of
from trueup.words import logger

SMALL, WIDE = 8, 30_000
"""Of the tokens of a micro-batch, the larger of two that are looked at is this part, the smaller half of it.
An embedding has more than `WIDE` rows, none of which a pass holds."""
PASSES = 5  # with gradients and moments there, of several sizes, after which the C library keeps little more
MOST, LEAST, HELD = 8192, 1024, 2**29
"""Tokens of a micro-batch where none are said: on a CPU as many as hold `HELD` bytes, counted generously."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a run holds at one time, at most, on the device it computes on."""

    weights: int
    gradients: int
    optimizer: int  # AdamW's two moments of every weight that is trained, or Muon's one
    reference: int  # a copy of the policy or of its adapter; and one that a sampler lags behind with
    fixed: float  # what a pass holds however many tokens it has: the head's buffers
    a_token: float  # what it holds more with every token of the stream

    def total(self, tokens: int) -> float:
        return self.held + self.fixed + self.a_token * tokens

    @property
    def held(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.reference

    def largest(self, free: float) -> int:
        return max(0, int((free - self.held - self.fixed) / max(self.a_token, 1.0)))


class LiveBytes(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the bytes of tensors, but the `known`, that are made while it is on and are still there; and the most
    there were."""

    def __init__(self, known: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known = {one.untyped_storage()._cdata for one in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for one in torch.utils._pytree.tree_leaves(made):
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
    muon = {id(one) for one in (by_muon(parts.policy) if parts.settings.optimizer == "muon" else ())}
    optimizer = sum(
        bytes_of(one.numel(), parts.settings.optimizer_states) * (1 if id(one) in muon else 2)
        for one in parts.policy.trainable().values()
    )
    lagging = parts.settings.source == "online" and parts.settings.sampler.resync > 1
    return {
        "weights": weights, "gradients": trained, "optimizer": optimizer, "reference": copied + trained * lagging,
    }  # fmt: skip


def measured_pass(parts: data.Parts, batch: Batch[Any]) -> int:
    """Bytes of tensors that the passes of a micro-batch hold at most, beside weights and gradients."""
    models = [parts.policy, *parts.reference.models()]
    seen = LiveBytes([one for model in models for one in (*model.parameters(), *model.buffers())])
    with seen:
        _pass(parts, batch)
    before = seen.peak = seen.live  # in the second the gradients are there, as in all but the first of a step
    with seen:
        _pass(parts, batch)
    parts.policy.zero_grad()
    return seen.peak - before


def _pass(parts: data.Parts, batch: Batch[Any]) -> None:
    policy, method, sums = parts.policy, parts.method, step.Sums()
    in_loss = parts.reference if method.reference_in_loss else reference.NullReference()
    objective = step.objective_of(method, step.Rows(policy, in_loss, Step((batch,)), sums))
    step.forward(policy, in_loss, objective, batch, sums, method.parts).per_example.sum().backward()


def memory_of(parts: data.Parts, groups: Sequence[TokenGroup[Any]]) -> Memory:
    """What a run will hold, seen on some groups of it; takes gradients, and no step."""
    few = max(parts.settings.micro_batch_tokens // SMALL // 2, *(group.num_tokens for group in groups), 1)
    sizes, most_kept, budget = [], head.KEPT, parts.settings.micro_batch_tokens
    full = _batch(parts, groups, budget)
    tried = _tried(parts, full, groups) if generous(parts, budget) < free_memory(parts.policy.device) / 2 else None
    for most in (few, 2 * few):
        batch = _batch(parts, groups, most)
        scored = len(batch.stream.target_S) / batch.stream.num_tokens
        logits = scored * budget * parts.policy.inner.get_input_embeddings().num_embeddings
        try:
            head.KEPT = most_kept if logits <= most_kept else 0  # a small pass keeps none where a large one does not
            sizes.append((batch.stream.num_tokens, measured_pass(parts, batch)))
        finally:
            head.KEPT = most_kept
    (few, less), (many, more) = sizes
    slope = (more - less) / (many - few) if many > few else more / many
    memory = Memory(**parts_held(parts), fixed=max(0.0, more - slope * many), a_token=slope)
    if tried is None:
        return memory
    kept = max(1.0, tried / (memory.fixed + slope * full.stream.num_tokens))
    return replace(memory, fixed=kept * memory.fixed, a_token=kept * slope)


def _tried(parts: data.Parts, batch: Batch[Any], groups: Sequence[TokenGroup[Any]]) -> int | None:
    """Bytes that the process holds more for the passes of a micro-batch: on a CPU more than their tensors, as the C
    library keeps what was given back. None on GPUs, and where the system does not tell."""
    if parts.policy.device.type != "cpu":
        return None
    trained = parts.policy.trainable().values()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the most there was is what there is
        before = _resident("VmRSS")
        _pass(parts, batch)
        # As in a run, moments lie where the first pass left room, and cut it up.
        sizes = [bytes_of(one.numel(), parts.settings.optimizer_states) for one in trained for _ in range(2)]
        moments = [torch.ones(size, dtype=torch.uint8) for size in sizes]
        for shift in range(PASSES):
            several = [*groups[shift:], *groups[:shift]]
            _pass(parts, _batch(parts, several, parts.settings.micro_batch_tokens // (1 + shift % 2)))
        most = _resident("VmHWM") - before
    except (OSError, AttributeError, LookupError):
        return None
    parts.policy.zero_grad()
    return most - sum(one.nbytes for one in (*moments, *trained))


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


def usual_tokens(policy: causal.StreamModel[Any]) -> int:
    """Of a micro-batch where none are said. A CPU computes 1,024 as fast as more, which only take memory."""
    if policy.device.type != "cpu":
        return MOST
    return min(MOST, max(LEAST, HELD // token_bytes(policy)))


def token_bytes(policy: causal.StreamModel[Any]) -> int:
    """Bytes that a pass holds of a token, generously: every layer's inputs and outputs four times over."""
    matrices = (one.shape for one in policy.inner.base_model.parameters() if one.ndim == 2)
    return 16 * sum(sum(shape) for shape in matrices if max(shape) < WIDE)


def generous(parts: data.Parts, tokens: int) -> int:
    """Bytes that a run holds beside its weights; it will hold fewer."""
    held = parts_held(parts)
    return held["gradients"] + held["optimizer"] + 16 * head.LOGITS_BUDGET + token_bytes(parts.policy) * tokens


def fit(parts: data.Parts, source: Source) -> None:
    """Lower the token budget of a run that is about to begin to what there is memory for, and say so.
    It is looked at closely only where a generous estimate is more than half of what is free."""
    batching, policy, groups = source.batching, parts.policy, source.first_groups()
    free = free_memory(policy.device)
    if not groups or generous(parts, batching.budget) < free / 2:
        return
    with torch.random.fork_rng():
        memory = memory_of(parts, groups)
    if (room := memory.largest(free + memory.weights + memory.reference)) < batching.budget:
        logger.warning(
            f"{free / 1e9:.2f} GB of memory are free, where a forward pass of {batching.budget} tokens needs more: it "
            f"has {room or 'as few as there can be'} at most"
        )
        batching.budget = max(room, 1)
