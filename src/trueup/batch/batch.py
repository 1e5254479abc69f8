"""Micro-batches: a stream, the index that relates its rows, and where each row came from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from trueup.batch.index import Index
from trueup.batch.stream import Stream, build_stream
from trueup.batch.tokens import TokenGroup
from trueup.feedback.records import Origin

I = TypeVar("I", bound=Index)  # noqa: E741


@dataclass(frozen=True, eq=False)
class Batch(Generic[I]):
    """What one forward pass sees."""

    stream: Stream
    index: I
    groups: tuple[TokenGroup[Any], ...]
    """The groups of the stream, in its order."""

    @property
    def origins(self) -> list[Origin | None]:
        """Where each of the N rows came from."""
        return [group.origin for group in self.groups for _ in group.responses]

    def to(self, device: torch.device) -> "Batch[I]":
        return Batch(self.stream.to(device), self.index.to(device), self.groups)


def collate_batch(groups: Sequence[TokenGroup[Any]], collate: Callable[..., I]) -> Batch[I]:
    """Lay groups out as one stream and index their rows.

    Args:
        groups: one or more groups.
        collate: `collate(relations, first_rows)` of the method's index type.
    """
    first_rows, row = [], 0
    for group in groups:
        first_rows.append(row)
        row += len(group.responses)
    index = collate([group.relation for group in groups], first_rows)
    return Batch(build_stream(groups), index, tuple(groups))


def cut(groups: Sequence[TokenGroup[Any]], budget: int) -> Iterator[list[TokenGroup[Any]]]:
    """Cut groups into micro-batches of at most `budget` stream tokens.

    Groups are taken in order of length, so that those computed together are of similar size. A group is never
    split: one that is longer than the budget is a micro-batch by itself. The loss does not depend on the cut.
    """
    part: list[TokenGroup[Any]] = []
    tokens = 0
    for group in sorted(groups, key=lambda group: group.num_tokens):
        if part and tokens + group.num_tokens > budget:
            yield part
            part, tokens = [], 0
        part.append(group)
        tokens += group.num_tokens
    if part:
        yield part
