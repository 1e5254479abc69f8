"""References that keep scalars instead of a model: the log-probabilities of known groups, by content.

One group's entry is the log-probabilities of its scored tokens, rows one after the other. A frozen reference is
computed once and kept on disk, to be shared by every run that starts from the same weights; one that becomes the
policy at every move is computed ahead, for the steps until its next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file, save
from torch import Tensor

from trueup import stop
from trueup.batch.rows import LogProbs
from trueup.batch.stream import Batch
from trueup.errors import InputError
from trueup.files import replaced_file
from trueup.models.causal import CausalModel, identity_of, model_identity, moved_identity
from trueup.references.choices import TrustRegion
from trueup.references.reference import BatchSource, Reference, State
from trueup.words import reason

CODE_PATH = 2
"""Raised whenever a change of code could change a log-probability by more than rounding."""


class Table:
    """Entries by the key of the group (`TokenGroup.key`), held on the CPU."""

    def __init__(self, entries: Mapping[str, Tensor] | None = None) -> None:
        self.entries: dict[str, Tensor] = dict(entries or {})

    def fill(self, policy: CausalModel, batches: Iterable[Batch[Any]]) -> set[str]:
        """Run every batch that holds an unknown group through the policy, without gradients or dropout.

        Returns:
            The keys of all groups of the batches.
        """
        keys: set[str] = set()
        for batch in batches:
            stop.check()
            keys.update(group.key for group in batch.groups)
            if all(group.key in self.entries for group in batch.groups):
                continue
            with torch.no_grad(), policy.without_dropout():
                log_probs = policy.log_probs(batch.to(policy.device).stream)
            counts = [sum(int(row.scored.sum()) for row in group.responses) for group in batch.groups]
            for group, piece in zip(batch.groups, log_probs.token_S.cpu().split(counts), strict=True):
                self.entries.setdefault(group.key, piece.clone())
        return keys

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

    The file is named by a fingerprint of everything the numbers depend on besides the tokens (weights,
    precision, layout, version of the code path and of torch) and its entries by the tokens, so that a stale
    entry cannot be found. Its own hash stands beside it; a damaged file is computed again.

    Args:
        policy: the model as it is before training.
        folder: where cache files lie.
    """

    exact = False

    def __init__(self, policy: CausalModel, folder: Path) -> None:
        self.policy = policy
        self.folder = folder
        self.table = Table()

    def start(self, source: BatchSource) -> None:
        self.identity = model_identity(self.policy.network)
        path = self.folder / f"{self.fingerprint()}.safetensors"
        known = read_table(path)
        batches = source.everything()
        assert batches is not None
        computed = Table(known.entries)
        used = computed.fill(self.policy, batches) | computed.fill(self.policy, source.held_out())
        if len(computed.entries) > len(known.entries):
            write_table(path, computed)
        self.table = Table({key: entry for key, entry in computed.entries.items() if key in used})

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


def read_table(path: Path) -> Table:
    """The table at `path`; an empty one where there is none or it is damaged."""
    seal = path.with_suffix(".sha256")
    if not path.is_file() or not seal.is_file():
        return Table()
    try:
        tensors = load_file(path)
        intact = identity_of(tensors.items()) == seal.read_text(encoding="utf-8").strip()
    except Exception:  # a torn file raises many kinds; what matters is that it is not whole
        return Table()
    return Table.from_tensors(tensors) if intact else Table()


def write_table(path: Path, table: Table) -> None:
    """Add a table's entries to the file at `path`, whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    seal = path.with_suffix(".sha256")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            merged = Table({**table.entries, **read_table(path).entries}).tensors()
            with replaced_file(path) as file:
                file.write(save(merged))
                file.flush()
                seal.unlink(missing_ok=True)  # until the new one is written there is no seal, hence no table
            with replaced_file(seal) as file:
                file.write(identity_of(merged.items()).encode())
    except OSError as error:
        why = reason(error)
        raise InputError(
            f"{path.parent}: the reference's log-probabilities cannot be kept there: {why}. "
            "Point the environment variable TRUEUP_CACHE to a folder with room, or choose --reference.kind frozen"
        ) from error


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
