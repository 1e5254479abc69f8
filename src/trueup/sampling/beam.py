"""Beam search, and diverse beam search (Vijayakumar et al., 2016, https://arxiv.org/abs/1610.02424).

Beams are compared by the mean log-probability of their tokens, the end of sequence among them, as the model library
does with its default `length_penalty` of 1; a search goes on, as there with `early_stopping` false, as long as the best
beam that is not ended has a higher mean than the worst of those kept.

Diverse beam search divides the beams into groups that take each step one after another. From the log-probability of
a token, a penalty is taken for every beam of an earlier group that took the same token at the same step, and as in the
authors' code and the model library's former one, what was taken off stays off.

Shape suffixes: P prompts, B beams of a group, V vocabulary, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trueup import stop
from trueup.sampling.decoding import BATCH_SIZE, CachedBatch
from trueup.sampling.sampler import Completion


class Node(NamedTuple):
    """A token, and what was written before it."""

    before: Node | None
    token: int
    log_prob: float
    """Of the model, without the penalty."""

    def completion(self, ends: frozenset[int]) -> Completion:
        """The whole response."""
        ids: list[int] = []
        log_probs: list[float] = []
        node: Node | None = self
        while node is not None:
            ids.append(node.token)
            log_probs.append(node.log_prob)
            node = node.before
        return Completion.of(ids[::-1], log_probs[::-1], ends)


class Beam(NamedTuple):
    """A response that is being written."""

    row: int
    """Its place in the batch before this step's token was added."""
    score: float
    """Sum of its log-probabilities, less penalties."""
    written: Node


@dataclass(eq=False)
class Group:
    """Beams of one prompt that compete with each other."""

    beams: int
    room: int
    """Longest response, in tokens."""
    rows: list[int] = field(default_factory=list)
    """Places in the batch of the beams below."""
    running: list[Beam] = field(default_factory=list)
    kept: list[tuple[float, Node]] = field(default_factory=list)
    """The best whole responses so far with their mean log-probability, best first."""
    length: int = 0
    """Tokens of the beams."""
    taken: list[int] = field(default_factory=list)
    """The tokens that its beams took last."""
    done: bool = False

    def take(self, found: Sequence[Beam], length: int, ends: frozenset[int]) -> None:
        """Go on after a step.

        Args:
            found: candidates, best first.
            length: tokens each of them has.
        """
        self.length = length
        whole = [length == self.room or one.written.token in ends for one in found]
        self.running = [one for one, over in zip(found, whole, strict=True) if not over][: self.beams]
        self.taken = [one.written.token for one in self.running or found[: self.beams]]
        leading = zip(found[: self.beams], whole[: self.beams], strict=True)
        self.kept += [(one.score / length, one.written) for one, over in leading if over]
        self.kept = sorted(self.kept, key=lambda pair: -pair[0])[: self.beams]
        full = len(self.kept) == self.beams
        self.done = not self.running or (full and self.running[0].score / length <= self.kept[-1][0])


def beam_search(
    network: Any,
    prompts: Sequence[Sequence[int]],
    *,
    beams: int,
    groups: int,
    penalty: float,
    end_ids: Sequence[int],
    rooms: Sequence[int],
    batch_size: int = BATCH_SIZE,
) -> list[list[Completion]]:
    """The best responses to each prompt, in the order of the prompts.

    Args:
        network: a transformers model with the library's own attention, its dropout off.
        prompts: token ids, none of them empty.
        beams: in all; a multiple of `groups`.
        groups: 1 is plain beam search.
        penalty: taken off a token's log-probability for every beam of an earlier group that took it, in nats.
        end_ids: tokens that end a response.
        rooms: for each prompt the longest response, in tokens, at least 1.
        batch_size: beams computed together.

    Returns:
        `beams` responses of plain beam search, best first; of diverse beam search the best of each group.

    Raises:
        InputError: the model cannot be sampled from in this process.
        Stopped: the user asked to stop.
    """
    assert beams % groups == 0, f"{beams} beams in {groups} groups"
    ends = frozenset(end_ids)
    found: list[list[Completion]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))  # little padding
    together = max(1, batch_size // beams)
    for start in range(0, len(order), together):
        places = order[start : start + together]
        searched = [
            [Group(beams // groups, rooms[place], [number]) for _ in range(groups)]
            for number, place in enumerate(places)
        ]
        _search(CachedBatch(network, [prompts[place] for place in places]), searched, penalty, ends)
        for place, several in zip(places, searched, strict=True):
            best = several[0].kept if groups == 1 else [group.kept[0] for group in several]
            found[place] = [node.completion(ends) for _, node in best]
    return found


def _search(
    batch: CachedBatch, searched: Sequence[Sequence[Group]], penalty: float, ends: frozenset[int]
) -> None:
    """Run the groups of all prompts to their end; each begins with the row of its prompt."""
    length = 0
    while True:
        stop.check()
        length += 1
        log_prob_NV = batch.logits_NV.log_softmax(-1)
        for number in range(len(searched[0])):
            going = [several for several in searched if not several[number].done]
            if going:
                _step(log_prob_NV, going, number, length, penalty, ends)
        running = [group for several in searched for group in several if not group.done]
        if not running:
            return
        beams = [beam for group in running for beam in group.running]
        batch.select([beam.row for beam in beams])
        place = 0
        for group in running:
            group.rows = list(range(place, place + len(group.running)))
            place += len(group.running)
        batch.advance(torch.tensor([beam.written.token for beam in beams], device=log_prob_NV.device))


def _step(
    log_prob_NV: Tensor,
    going: Sequence[Sequence[Group]],
    number: int,
    length: int,
    penalty: float,
    ends: frozenset[int],
) -> None:
    """Take group `number` of each prompt one token further."""
    vocabulary = log_prob_NV.shape[-1]
    width = max(len(several[number].rows) for several in going)
    row_PB, score_PB = _padded(going, number, width, log_prob_NV.device)
    own_PBV = log_prob_NV[row_PB]
    total_PBV = score_PB[:, :, None] + (
        own_PBV - penalty * _taken(going, number, length, own_PBV) if number else own_PBV
    )
    candidates = min((1 + max(1, len(ends))) * going[0][number].beams, width * vocabulary)
    total_PC, at_PC = total_PBV.flatten(1).topk(candidates)
    own_PC = own_PBV.flatten(1).gather(1, at_PC)
    lists = (total_PC.tolist(), at_PC.tolist(), own_PC.tolist())
    for several, totals, ats, owns in zip(going, *lists, strict=True):
        group = several[number]
        found = [
            Beam(
                group.rows[at // vocabulary],
                total,
                Node(_before(group, at // vocabulary), at % vocabulary, own),
            )
            for total, at, own in zip(totals, ats, owns, strict=True)
            if total > -torch.inf
        ]
        group.take(found, length, ends)


def _before(group: Group, beam: int) -> Node | None:
    return group.running[beam].written if group.running else None


def _padded(
    going: Sequence[Sequence[Group]], number: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """[P, B] places in the batch and [P, B] scores; minus infinity for a beam that is not there."""
    rows, scores = [], []
    for several in going:
        group = several[number]
        missing = width - len(group.rows)
        rows.append(group.rows + [0] * missing)
        scores.append(([one.score for one in group.running] or [0.0]) + [-torch.inf] * missing)
    return torch.tensor(rows, device=device), torch.tensor(scores, device=device)


def _taken(going: Sequence[Sequence[Group]], number: int, length: int, like_PBV: Tensor) -> Tensor:
    """[P, 1, V] how many beams of earlier groups took each token at this step; those of groups that were done, none."""
    taken = torch.zeros_like(like_PBV[:, :1])
    for place, several in enumerate(going):
        for group in several[:number]:
            for token in group.taken if group.length == length else ():
                taken[place, 0, token] += 1
    return taken
