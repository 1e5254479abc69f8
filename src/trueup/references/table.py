"""Scalars instead of a model: the log-probabilities of known groups, by content.

One group's entry is the log-probabilities of its scored tokens, rows one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from trueup import stop
from trueup.batch.logprobs import LogProbs
from trueup.batch.stream import Batch
from trueup.models.causal import CausalModel


class Table:
    """Entries by the key of the group (`TokenGroup.key`), held on the CPU."""

    def __init__(self, entries: Mapping[str, Tensor] | None = None) -> None:
        self.entries: dict[str, Tensor] = dict(entries or {})

    def __contains__(self, key: str) -> bool:
        return key in self.entries

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
