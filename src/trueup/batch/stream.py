"""The group stream, in which every prompt is computed once, and the micro-batches that are laid out as one.

    [prompt][response 1]...[response K] [prompt][response 1]...    positions restart at |prompt| for each response

A response token sees its prompt and the earlier tokens of its own response; nothing else. There is no padding.

Shape suffixes: T tokens of the stream, N rows (responses), S scored tokens.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import accumulate, groupby, pairwise
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from trueup.batch.tokens import TokenGroup
from trueup.feedback.records import Origin

Plan = TypeVar("Plan")
Moved = TypeVar("Moved")
I = TypeVar("I")  # noqa: E741


@dataclass(frozen=True, slots=True)
class GroupSpan:
    """Where one group lies in the stream, as half-open ranges of token numbers."""

    prompt: tuple[int, int]
    responses: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Stream:
    """Groups of tokens laid out flat, and where the scored tokens are.
    One group, prompt [5, 6], responses [7, 2] and [8, 2], all scored: token_T = [5, 6, 7, 2, 8, 2],
    position_T = [0, 1, 2, 3, 2, 3], source_S = [1, 2, 1, 4] (the token whose output predicts the scored one; the last
    prompt token serves every response), target_S = [7, 2, 8, 2], length_N = [2, 2]."""

    token_T: Tensor  # [T] int64
    position_T: Tensor
    source_S: Tensor  # [S] int64, the stream position whose output predicts each scored token
    target_S: Tensor  # [S] int64, the scored tokens themselves
    length_N: Tensor  # [N] int64, scored tokens of each row
    prompt_N: Tensor  # [N] int64, tokens of the prompt before each row
    spans: tuple[GroupSpan, ...]
    _plans: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def num_tokens(self) -> int:
        return self.token_T.shape[0]

    def planned(self, name: str, make: Callable[["Stream"], Plan]) -> Plan:
        """What a backend of attention makes of the stream: once, for policy and reference and all of their layers."""
        if name not in self._plans:
            self._plans[name] = make(self)
        plan: Plan = self._plans[name]
        return plan

    def to(self, device: torch.device) -> "Stream":
        return on_device(self, device)

    def split(self, kind: Callable[[int], Hashable]) -> list[tuple["Stream", Tensor]]:
        """Streams of the rows of one kind each, by their tokens, and [S'] the numbers of their scored tokens."""
        rows: dict[Hashable, list[tuple[int, int]]] = {}
        for group, span in enumerate(self.spans):
            for number, (start, stop) in enumerate(span.responses):
                length = span.prompt[1] - span.prompt[0] + stop - start
                rows.setdefault(kind(length), []).append((group, number))
        first = np.cumsum([0, *(len(span.responses) for span in self.spans)])
        return [self._of_rows(first, chosen) for chosen in rows.values()]

    def _of_rows(self, first: np.ndarray, rows: Sequence[tuple[int, int]]) -> tuple["Stream", Tensor]:
        """The stream of some rows, given as group and number within it, in their order."""
        kept: list[np.ndarray] = []
        spans: list[GroupSpan] = []
        place = 0
        for group, chosen in groupby(rows, key=lambda row: row[0]):
            span = self.spans[group]
            ranges = [span.prompt, *(span.responses[number] for _, number in chosen)]
            bounds = np.cumsum([place, *(stop - start for start, stop in ranges)]).tolist()
            kept += [np.arange(*one) for one in ranges]
            spans.append(GroupSpan((bounds[0], bounds[1]), tuple(pairwise(bounds[1:]))))
            place = bounds[-1]
        device = self.token_T.device
        kept_T = _tensor(kept).to(device)
        place_T = torch.zeros_like(self.token_T)
        place_T[kept_T] = torch.arange(len(kept_T), device=device)
        row_N = torch.tensor([first[group] + number for group, number in rows], device=device)
        row_S = torch.repeat_interleave(torch.arange(len(self.length_N), device=device), self.length_N)
        number_S = torch.isin(row_S, row_N).nonzero()[:, 0]
        stream = Stream(
            self.token_T[kept_T], self.position_T[kept_T], place_T[self.source_S[number_S]], self.target_S[number_S],
            self.length_N[row_N], self.prompt_N[row_N], tuple(spans),
        )  # fmt: skip
        return stream, number_S


def on_device(value: Moved, device: torch.device) -> Moved:
    """A value with its tensors, and those of the dataclasses in it, on a device, without waiting for it: from pinned
    memory, since a GPU takes what could be paged out only when it has done all that it was given before."""
    moved: Any = value
    if isinstance(moved, Tensor):
        pinned = moved.pin_memory() if device.type == "cuda" and moved.device.type == "cpu" else moved
        moved = pinned.to(device, non_blocking=True)
    elif is_dataclass(moved) and not isinstance(moved, type):
        parts = {one.name: getattr(moved, one.name) for one in fields(moved) if one.init}
        moved = replace(moved, **{name: on_device(part, device) for name, part in parts.items()})
    result: Moved = moved
    return result


def build_stream(groups: Sequence[TokenGroup[object]]) -> Stream:
    """Lay groups out in the order given; prompts are not empty: their last token predicts a response's first."""
    tokens, positions, sources, targets = [], [], [], []
    lengths, prompts, spans = [], [], []
    stop = 0
    for group in groups:
        start, stop, size = stop, stop + len(group.prompt), len(group.prompt)
        last, ranges = stop - 1, []
        tokens.append(group.prompt)
        positions.append(np.arange(size))
        for row in group.responses:
            first, stop = stop, stop + len(row.ids)
            before = np.arange(first - 1, stop - 1)
            before[0] = last
            tokens.append(row.ids)
            positions.append(np.arange(size, size + len(row.ids)))
            sources.append(before[row.scored])
            targets.append(row.ids[row.scored])
            lengths.append(int(row.scored.sum()))
            prompts.append(size)
            ranges.append((first, stop))
        spans.append(GroupSpan((start, last + 1), tuple(ranges)))
    return Stream(
        _tensor(tokens), _tensor(positions), _tensor(sources), _tensor(targets),
        torch.tensor(lengths, dtype=torch.int64), torch.tensor(prompts, dtype=torch.int64), tuple(spans),
    )  # fmt: skip


def _tensor(pieces: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(pieces).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Batch(Generic[I]):
    stream: Stream
    index: I
    groups: tuple[TokenGroup[Any], ...]
    idle: bool = False
    """Whether it counts for nothing: another process has it too, and this one only keeps up with its passes."""

    @property
    def origins(self) -> list[Origin | None]:
        return [group.origin for group in self.groups for _ in group.responses]

    def to(self, device: torch.device) -> "Batch[I]":
        return on_device(self, device)


def collate_batch(groups: Sequence[TokenGroup[Any]], collate: Callable[..., I]) -> Batch[I]:
    """Lay groups out as one stream and index their rows by `collate(relations, first_rows)` of the method's index."""
    first_rows = [0, *accumulate(len(group.responses) for group in groups)][:-1]
    index = collate([group.relation for group in groups], first_rows)
    return Batch(build_stream(groups), index, tuple(groups))


def cut(groups: Sequence[TokenGroup[Any]], budget: int) -> Iterator[list[TokenGroup[Any]]]:
    """Cut groups into micro-batches of at most `budget` stream tokens, in order of length; a group is never split."""
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
