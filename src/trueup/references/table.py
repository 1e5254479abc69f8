"""References that keep scalars instead of a model: the log-probabilities of known groups, by content.

One group's entry is the log-probabilities of its scored tokens, rows one after the other. A frozen reference is
computed once and kept on disk, to be shared by every run that starts from the same weights; one that becomes the
policy at every move is computed ahead, for the steps until its next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trueup import stop
from trueup.batch.rows import LogProbs
from trueup.batch.stream import Batch
from trueup.models.causal import CausalModel, model_identity, moved_identity
from trueup.record_cache import RecordCache
from trueup.references.choices import TrustRegion
from trueup.references.reference import BatchSource, Reference, State

CODE_PATH = 2
"""Raised whenever a change of code could change a log-probability by more than rounding."""


class Table:
    """Entries by the key of the group (`TokenGroup.key`), held on the CPU."""

    def __init__(self, entries: Mapping[str, Tensor] | None = None) -> None:
        self.entries: dict[str, Tensor] = dict(entries or {})

    def fill(self, policy: CausalModel, batches: Iterable[Batch[Any]]) -> None:
        """Run every batch that holds an unknown group through the policy, without gradients or dropout."""
        for batch in batches:
            stop.check()
            if all(group.key in self.entries for group in batch.groups):
                continue
            with torch.no_grad(), policy.without_dropout():
                log_probs = policy.log_probs(batch.to(policy.device).stream)
            counts = [sum(int(row.scored.sum()) for row in group.responses) for group in batch.groups]
            for group, piece in zip(batch.groups, log_probs.token_S.cpu().split(counts), strict=True):
                self.entries.setdefault(group.key, piece.clone())

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        """Look a batch up.

        Raises:
            KeyError: a group of the batch was never computed.
        """
        token_S = torch.cat([self.entries[group.key] for group in batch.groups])
        stream = batch.stream
        return LogProbs(
            token_S.to(stream.token_T.device, non_blocking=True), stream.length_N, stream.prompt_N
        )

    def tensors(self) -> dict[str, Tensor]:
        """All entries as three tensors: keys as bytes, lengths, and values."""
        keys = list(self.entries)
        raw = torch.tensor(list(bytes.fromhex("".join(keys))), dtype=torch.uint8)
        lengths = torch.tensor([len(entry) for entry in self.entries.values()], dtype=torch.int64)
        values = torch.cat([torch.zeros(0), *self.entries.values()])
        return {"keys": raw, "lengths": lengths, "values": values}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Table:
        """The table that `tensors` was made of."""
        size = 16
        raw = tensors["keys"].numpy().tobytes()
        keys = [raw[start : start + size].hex() for start in range(0, len(raw), size)]
        values = tensors["values"].split(tensors["lengths"].tolist())
        return cls({key: value.clone() for key, value in zip(keys, values, strict=True)})


class CachedReference(Reference):
    """Log-probabilities of every training and evaluation group under the policy's first weights.

    An entry is kept under the tokens and a fingerprint of everything else the numbers depend on (weights,
    precision, layout, version of the code path and of torch), so that a stale one cannot be found.

    Args:
        policy: the model as it is before training.
        path: of the cache.
    """

    exact = False

    def __init__(self, policy: CausalModel, path: Path) -> None:
        self.policy = policy
        self.path = path
        self.table = Table()

    def start(self, source: BatchSource) -> None:
        """As for every reference.

        Raises:
            InputError: the cache cannot be read or written.
        """
        self.identity = model_identity(self.policy.network)
        batches = source.everything()
        assert batches is not None
        self.table.fill(self.policy, self._kept(chain(batches, source.held_out())))

    def _kept(self, batches: Iterable[Batch[Any]]) -> Iterator[Batch[Any]]:
        """The batches: before each is computed its known entries are read, and afterwards its new ones are kept."""
        records = RecordCache(
            self.path,
            table="log_probs_1",
            noun="the reference's log-probabilities",
            without="choose --reference.kind frozen",
        )
        prefix, entries = self.fingerprint(), self.table.entries
        for batch in batches:
            missing = dict.fromkeys(group.key for group in batch.groups if group.key not in entries)
            found = {key: records.get(f"{prefix} {key}") for key in missing}
            known = {key: from_record(record) for key, record in found.items() if record is not None}
            entries |= known
            yield batch
            records.put_all(
                {f"{prefix} {key}": to_record(entries[key]) for key in missing if key not in known}
            )

    def fingerprint(self) -> str:
        """Hash of what the numbers depend on, tokens apart."""
        parts = [
            self.identity,
            str(self.policy.autocast),
            self.policy.attention,
            CODE_PATH,
            torch.__version__,
            *([self.policy.temperature] if self.policy.temperature != 1 else []),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        return self.table.log_probs(batch)

    def state(self) -> State:
        return State(self.table.tensors(), {"identity": self.identity})

    def restore(self, state: State) -> None:
        self.table = Table.from_tensors(state.tensors)
        self.identity = str(state.metadata["identity"])


def to_record(entry: Tensor) -> dict[str, str]:
    """A group's log-probabilities for the cache, to the bit."""
    return {"float32": entry.numpy().tobytes().hex()}


def from_record(record: Mapping[str, str]) -> Tensor:
    """What `to_record` was given."""
    return torch.frombuffer(bytearray.fromhex(record["float32"]), dtype=torch.float32)


class LookAhead(Reference):
    """reference <- policy every `region.every` steps, as scalars.

    At a synchronisation the reference is the policy. The batches of the next `every` steps are known offline, so
    they are run through the policy at once, and only their log-probabilities are kept until the next one.

    Args:
        policy: the model whose log-probabilities are kept.
        region: the period; its alpha is 1.
    """

    def __init__(self, policy: CausalModel, region: TrustRegion) -> None:
        assert region.alpha == 1
        self.policy = policy
        self.region = region
        self.table = Table()

    def start(self, source: BatchSource) -> None:
        self._synchronise(0, source)
        self.identity = model_identity(self.policy.network)

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        return self.table.log_probs(batch)

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
        table.fill(self.policy, upcoming)
        table.fill(self.policy, source.held_out())
        self.table = table

    def state(self) -> State:
        return State(self.table.tensors(), {"identity": self.identity})

    def restore(self, state: State) -> None:
        self.table = Table.from_tensors(state.tensors)
        self.identity = str(state.metadata["identity"])
