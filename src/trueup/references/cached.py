"""A frozen reference computed once and kept on disk, to be shared by every run that starts from the same weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file, save

from trueup.batch.logprobs import LogProbs
from trueup.batch.stream import Batch
from trueup.errors import InputError
from trueup.files import replaced_whole
from trueup.models.causal import CausalModel, identity_of, model_identity
from trueup.references.reference import BatchSource, State
from trueup.references.table import Table
from trueup.words import reason

CODE_PATH = 1
"""Raised whenever a change of code could change a log-probability by more than rounding."""


class CachedReference:
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
        self.identity = ""
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
        facts = [
            self.identity,
            str(self.policy.autocast),
            self.policy.attention,
            CODE_PATH,
            torch.__version__,
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def log_probs(self, batch: Batch[Any]) -> LogProbs:
        return self.table.log_probs(batch)

    def update(self, step: int, source: BatchSource) -> bool:
        return False

    def state(self) -> State:
        return State(self.table.tensors(), {"identity": self.identity})

    def restore(self, state: State) -> None:
        self.table = Table.from_tensors(state.tensors)
        self.identity = str(state.facts["identity"])


def read_table(path: Path) -> Table:
    """The table at `path`; an empty one where there is none or it is damaged."""
    seal = path.with_suffix(".sha256")
    if not path.is_file() or not seal.is_file():
        return Table()
    try:
        tensors = load_file(path)
        whole = identity_of(tensors.items()) == seal.read_text(encoding="utf-8").strip()
    except Exception:  # a torn file raises many kinds; what matters is that it is not whole
        return Table()
    return Table.from_tensors(tensors) if whole else Table()


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
            with replaced_whole(path) as file:
                file.write(save(merged))
                file.flush()
                seal.unlink(missing_ok=True)  # until the new one is written there is no seal, hence no table
            with replaced_whole(seal) as file:
                file.write(identity_of(merged.items()).encode())
    except OSError as error:
        why = reason(error)
        raise InputError(
            f"{path.parent}: the reference's log-probabilities cannot be kept there: {why}. "
            "Point the environment variable TRUEUP_CACHE to a folder with room, or choose --reference.kind frozen"
        ) from error
