"""What every running reference offers, and the one that offers nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import torch

from trueup import record_cache, stop
from trueup.batch.rows import LogProbs
from trueup.batch.stream import Batch, on_device
from trueup.models.causal import CausalModel, model_identity, moved_identity
from trueup.parallel.processes import every, gather
from trueup.references.choices import TrustRegion


@dataclass(frozen=True, slots=True)
class State:
    """What a reference needs to go on after a restart."""

    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)  # JSON-ready; always holds `identity`


class BatchSource(Protocol):
    """What a reference may ask of the source of examples."""

    def upcoming(self, step: int, count: int) -> Iterable[Batch[Any]] | None:
        """Micro-batches of the `count` steps after `step`, cut as they will be computed; None when unknown."""
        return None

    def everything(self) -> Iterable[Batch[Any]] | None:
        """Micro-batches that hold every group of the run at least once, in training order; None when unknown."""
        return None

    def held_out(self) -> Iterable[Batch[Any]]:
        """Micro-batches of everything that an evaluation computes."""


class Reference(Protocol):
    """A policy to measure against. Made by `trueup.references.build`; no gradient ever reaches it."""

    identity: str = ""  # hash of the weights it began with, of its moves since, and nothing else; "" before it starts
    weights: bool = False
    """Whether a checkpoint holds weights of it. It does only where they move: a frozen one is the model that the run
    begins with, which whoever goes on with the run has read again."""
    exact: bool = True
    """True when its numbers come from the same code path as the policy's, so that equal weights give exactly
    equal log-probabilities."""

    def models(self) -> Sequence[Any]:
        """Those it holds beside the policy, each a `StreamModel`."""
        return ()

    def start(self, source: BatchSource) -> None:
        """Take the policy as it is now for the reference. Called once, before step 1 of a new run."""

    def placed(self) -> AbstractContextManager[CausalModel]:
        """The model with the reference's weights, to compute with while the block runs; of those that hold weights."""
        raise TypeError(f"{type(self).__name__} holds no weights")

    def log_probs(self, batch: Batch[Any]) -> LogProbs | None:
        """Log-probabilities of a batch's rows under the reference."""
        with torch.no_grad(), self.placed() as model:
            return model.log_probs(batch.stream)

    def update(self, step: int, source: BatchSource) -> bool:
        """Called after every optimizer step, counted from 1; True when the reference moved."""
        return False

    def state(self) -> State:
        """What a checkpoint has to hold."""
        return State(metadata={"identity": self.identity})

    def restore(self, state: State) -> None:
        """Go back to a saved state instead of `start`; before the policy goes back to its own."""
        self.identity = str(state.metadata["identity"])


class NullReference(Reference):
    def start(self, source: BatchSource) -> None:
        """Nothing to prepare."""

    def log_probs(self, batch: Batch[Any]) -> None:
        return None


CODE_PATH = 2  # raised whenever a change of code could change a log-probability by more than rounding


class Table:
    """Entries by the key of the group (`TokenGroup.key`), held on the CPU."""

    def __init__(self, entries: Mapping[str, torch.Tensor] | None = None) -> None:
        self.entries: dict[str, torch.Tensor] = dict(entries or {})

    def fill(self, policy: CausalModel, batches: Iterable[Batch[Any]]) -> None:
        """Run every batch that holds an unknown group through the policy, without gradients or dropout.
        Every process has the entries of all: in a later pass, or where a step is made again, groups are dealt anew."""
        for batch in batches:
            stop.check_together()
            if every(all(group.key in self.entries for group in batch.groups)):
                continue
            with torch.no_grad(), policy.without_dropout():
                log_probs = policy.log_probs(batch.to(policy.device).stream)
            counts = [sum(int(row.scored.sum()) for row in group.responses) for group in batch.groups]
            for group, piece in zip(batch.groups, log_probs.token_S.cpu().split(counts), strict=True):
                self.entries.setdefault(group.key, piece.clone())
        self.entries = {key: entry for entries in gather(self.entries) for key, entry in entries.items()}

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        token_S = torch.cat([self.entries[group.key] for group in batch.groups])
        stream = batch.stream
        return LogProbs(on_device(token_S, stream.token_T.device), stream.length_N, stream.prompt_N)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All entries as three tensors: keys as bytes, lengths, and values."""
        keys = list(self.entries)
        raw = torch.tensor(list(bytes.fromhex("".join(keys))), dtype=torch.uint8)
        lengths = torch.tensor([len(entry) for entry in self.entries.values()], dtype=torch.int64)
        values = torch.cat([torch.zeros(0), *self.entries.values()])
        return {"keys": raw, "lengths": lengths, "values": values}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Table:
        size = 16
        raw = tensors["keys"].numpy().tobytes()
        keys = [raw[start : start + size].hex() for start in range(0, len(raw), size)]
        values = tensors["values"].split(tensors["lengths"].tolist())
        return cls({key: value.clone() for key, value in zip(keys, values, strict=True)})


class TableReference(Reference, Protocol):
    """Looks up what was computed of each group."""

    table: Table

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        return self.table.log_probs(batch)

    def state(self) -> State:
        return State(self.table.tensors(), {"identity": self.identity})

    def restore(self, state: State) -> None:
        self.table = Table.from_tensors(state.tensors)
        self.identity = str(state.metadata["identity"])


class CachedReference(TableReference):
    """Log-probabilities of every training and evaluation group under the policy's first weights.
    An entry is kept under the tokens and a fingerprint of everything else the numbers depend on (weights, precision,
    layout, version of the code path and of torch), so that a stale one cannot be found."""

    exact = False

    def __init__(self, policy: CausalModel, path: Path) -> None:
        self.policy = policy
        self.path = path
        self.table = Table()

    def start(self, source: BatchSource) -> None:
        self.identity = model_identity(self.policy.network)
        batches = source.everything()
        assert batches is not None
        self.table.fill(self.policy, self._kept(chain(batches, source.held_out())))

    def _kept(self, batches: Iterable[Batch[Any]]) -> Iterator[Batch[Any]]:
        """The batches: before each is computed its known entries are read, and afterwards its new ones are kept."""
        records = record_cache.RecordCache(
            self.path, table="log_probs_1", noun="the reference's log-probabilities",
            without="choose --reference.kind frozen",
        )  # fmt: skip
        prefix, entries = self.fingerprint(), self.table.entries
        for batch in batches:
            missing = dict.fromkeys(group.key for group in batch.groups if group.key not in entries)
            found = {key: records.get(f"{prefix} {key}") for key in missing}
            known = {key: bytes.fromhex(one["float32"]) for key, one in found.items() if one is not None}
            entries |= {key: torch.frombuffer(bytearray(raw), dtype=torch.float32) for key, raw in known.items()}
            yield batch
            new = ((key, entries[key].numpy().tobytes().hex()) for key in missing if key not in known)
            records.put_all({f"{prefix} {key}": {"float32": raw} for key, raw in new})

    def fingerprint(self) -> str:
        """Hash of what the numbers depend on, tokens apart."""
        policy = self.policy
        parts = [self.identity, str(policy.autocast), policy.attention, CODE_PATH, torch.__version__]
        parts += [policy.temperature] if policy.temperature != 1 else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class LookAhead(TableReference):
    """reference <- policy every `region.every` steps, as scalars.
    The batches of the next `every` steps are known offline, so they are run through the policy at a synchronisation,
    and only their log-probabilities are kept until the next one."""

    def __init__(self, policy: CausalModel, region: TrustRegion) -> None:
        assert region.alpha == 1
        self.policy = policy
        self.region = region
        self.table = Table()

    def start(self, source: BatchSource) -> None:
        self._synchronise(0, source)
        self.identity = model_identity(self.policy.network)

    def update(self, step: int, source: BatchSource) -> bool:
        if not self.region.due(step):
            return False
        self._synchronise(step, source)
        self.identity = moved_identity(self.identity, step)
        return True

    def _synchronise(self, step: int, source: BatchSource) -> None:
        upcoming = source.upcoming(step, self.region.every)
        assert upcoming is not None
        # A new table in the order of training: the first entry of a repeated group is its next use.
        table = Table()
        table.fill(self.policy, chain(upcoming, source.held_out()))
        self.table = table
