"""What the loop asks of a source of examples, and the source of feedback that was collected before training.
The loop cannot tell one kind of source from another. Here every pass goes over the data in a new order that is a
function of the seed alone, and a step's batches one of the seed and the step: there is no state to save, and a run
resumes at a step, not at a file position."""

import math
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

from trueup.batch import rows, stream
from trueup.batch.tokens import TokenGroup, tokens_identity
from trueup.feedback.condition import Condition
from trueup.parallel.processes import rank, size
from trueup.references.reference import BatchSource, State

Group = TokenGroup[Any]
Pairing = Callable[[Group, Group], Group | None]
"""(group, another) -> the first one's prompt with the other's responses; None where they do not go together."""


@dataclass(frozen=True, slots=True)
class Step:
    """The micro-batches of an optimizer step, or of an evaluation. Iterating goes through all of them."""

    batches: Sequence[stream.Batch[Any]] = ()
    """What is learned from; empty where a round of online feedback gave nothing."""
    mismatched: Sequence[stream.Batch[Any]] = ()
    tokens: int = 0  # of the streams of what is learned from, over all processes
    spare: Sequence[stream.Batch[Any]] = ()
    """Of several processes, the least that there is of what is learned from and of what is mismatched, both idle."""

    def __iter__(self) -> Iterator[stream.Batch[Any]]:
        yield from self.batches
        yield from self.mismatched


@dataclass(slots=True)
class Batching:
    """How the groups of a step are cut into micro-batches of `budget` tokens; `pairing` makes mismatched groups."""

    collate: Callable[..., Any]
    budget: int  # fewer than the run was given where memory is short; from then on every step is cut so
    pairing: Pairing | None = None

    def step(self, groups: Sequence[Group], others: Iterable[Iterable[Group]] | None = None) -> Step:
        """The micro-batches of some groups; `others` are what each may be paired with, else those that follow it."""
        pairing = self.pairing
        tokens = sum(group.num_tokens for group in groups)
        if pairing is None:
            cut = self._cut(groups, self.collate)
            return Step(cut, (), tokens, _least(cut, self.collate))
        if others is None:
            size = len(groups)
            others = ((groups[(place + more) % size] for more in range(1, size)) for place in range(size))
        paired = []
        for group, several in zip(groups, others, strict=True):
            if made := next((made for other in several if (made := pairing(group, other))), None):
                paired.append(made)
        cut, wrong = self._cut(groups, self.collate), self._cut(paired, rows.Demonstrations.collate)
        spare = (*_least(cut, self.collate), *_least(wrong, rows.Demonstrations.collate))
        return Step(cut, wrong, tokens, spare)

    def _cut(self, groups: Sequence[Group], collate: Callable[..., Any]) -> list[stream.Batch[Any]]:
        own = passes(groups, self.budget)
        return [replace(stream.collate_batch(part, collate), idle=idle) for part, idle in own]


def _least(batches: Sequence[stream.Batch[Any]], collate: Callable[..., Any]) -> list[stream.Batch[Any]]:
    if size() == 1 or not batches:
        return []
    least = min((group for batch in batches for group in batch.groups), key=lambda group: group.num_tokens)
    return [replace(stream.collate_batch([least], collate), idle=True)]


def passes(groups: Sequence[Group], budget: int) -> list[tuple[list[Group], bool]]:
    """The forward passes of this process over its share of some groups, and whether each is idle.
    All processes make as many: one that has fewer repeats another's smallest group, which counts for nothing."""
    shares = [list(stream.cut(share, budget)) for share in dealt(groups, size())]
    made = [(part, False) for part in shares[rank()]]
    missing = max(map(len, shares)) - len(made)
    return made + [([min(groups, key=lambda group: group.num_tokens)], True)] * missing if missing else made


def dealt(groups: Sequence[Group], count: int) -> list[list[Group]]:
    """Groups dealt out so that every share has about as many tokens; the same wherever it is done."""
    if count == 1:
        return [list(groups)]
    shares: list[list[Group]] = [[] for _ in range(count)]
    loads = [0] * count
    for group in sorted(groups, key=lambda group: -group.num_tokens):
        least = loads.index(min(loads))
        shares[least].append(group)
        loads[least] += group.num_tokens
    return shares


class Source(BatchSource, Protocol):
    """Steps by number. What one hands out for a step is always the same, cut as `batching` has it by then."""

    batching: Batching
    held_out_groups: Sequence[Group]

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""

    @property
    def has_held_out(self) -> bool:
        """Whether there is feedback to evaluate on."""
        return bool(self.held_out_groups)

    @property
    def condition(self) -> Condition | None:
        """What the method wrote into the prompts that were learned from, to be kept with the model."""

    def first_groups(self) -> Sequence[Group]:
        """Groups that stand for those of the first step where layout and threads are chosen; gathers nothing."""

    def identity(self) -> str:
        """Hash of the tokens that are known when a run begins."""

    def metrics(self, step: int) -> Mapping[str, float]:
        """What gathering the examples of a step took and gave; nothing where they were there before."""
        return {}

    def state(self) -> State:
        """What a checkpoint has to hold beside the step."""
        return State()

    def restore(self, state: State) -> None:
        """Go back to a saved state; nothing is to be done where order is a function of the seed and the step."""
        return None

    def epoch(self, step: int) -> float:
        """Passes over the data completed after a step."""

    def step(self, number: int) -> Step:
        """The micro-batches of an optimizer step, counted from 1, always cut the same way.
        Raises Stopped, AnnotatorError, InputError or NumericsError where feedback cannot be gathered for it."""

    def held_out(self) -> Step:
        """The micro-batches of the evaluation data; empty where there is none."""
        return self.batching.step(self.held_out_groups)


class Groups(Protocol):
    """Groups by number: a list, or what makes one when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Group | None:
        """A group; None where its place turns out to hold nothing of use."""
        ...


def there(groups: Groups) -> Iterator[Group]:
    return (group for index in range(len(groups)) if (group := groups[index]))


@dataclass
class OfflineSource(Source):
    """Batches of `batch_size` examples from passes laid end to end; only the run's last batch may be smaller.
    `total` examples over all passes, in an order that `seed` decides; of each `stratum` every batch holds its share;
    `known` groups stand for all, where they are not all looked at before the first step."""

    groups: Groups
    held_out_groups: Sequence[Group]
    batching: Batching
    batch_size: int
    seed: int
    total: int
    stratum: Callable[[Any], Hashable] | None = None
    condition: Condition | None = None
    known: Sequence[Group] = ()
    _orders: dict[int, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_steps(self) -> int:
        return math.ceil(self.total / self.batch_size)

    def epoch(self, step: int) -> float:
        return min(step * self.batch_size, self.total) / len(self.groups)

    def step_groups(self, number: int) -> list[Group]:
        return [group for place in self._places(number) if (group := self._group(place))]

    def first_groups(self) -> Sequence[Group]:
        steps = map(self.step_groups, range(1, self.num_steps + 1))
        return next(filter(None, steps), self.known[: self.batch_size])

    def identity(self) -> str:
        return tokens_identity((*(self.known or there(self.groups)), *self.held_out_groups))

    def metrics(self, step: int) -> Mapping[str, float]:
        left_out = len(self._places(step)) - len(self.step_groups(step))
        return {"data/left_out": float(left_out)} if left_out else {}

    def step(self, number: int) -> Step:
        """Mismatched, a prompt takes the responses of the pass's next group that has another prompt."""
        others = (self._following(place) for place in self._places(number) if self._group(place))
        return self.batching.step(self.step_groups(number), others)

    def upcoming(self, step: int, count: int) -> Iterator[stream.Batch[Any]]:
        for later in range(step + 1, min(step + count, self.num_steps) + 1):
            yield from self.step(later)

    def everything(self) -> Iterator[stream.Batch[Any]]:
        first_pass = math.ceil(min(self.total, len(self.groups)) / self.batch_size)
        yield from self.upcoming(0, first_pass)
        for later in range(first_pass + 1, self.num_steps + 1):
            yield from self.step(later).mismatched

    def _places(self, number: int) -> range:
        first = (number - 1) * self.batch_size
        return range(first, min(first + self.batch_size, self.total))

    def _following(self, place: int) -> Iterator[Group]:
        """The other groups of a place's pass, from the next one on, around its end."""
        size = len(self.groups)
        start = place - place % size
        others = (self._group(start + (place + more) % size) for more in range(1, size))
        return (group for group in others if group)

    def _group(self, place: int) -> Group | None:
        epoch, within = divmod(place, len(self.groups))
        return self.groups[self._order(epoch)[within]]

    def _order(self, epoch: int) -> tuple[int, ...]:
        if epoch not in self._orders:
            made = order(self.seed, epoch, len(self.groups))
            if self.stratum is not None:
                made = stratified(made, [self.stratum(group.relation) for group in there(self.groups)])
            while len(self._orders) >= 2:
                self._orders.pop(next(iter(self._orders)))
            self._orders[epoch] = made
        return self._orders[epoch]


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, size: int) -> tuple[int, ...]:
    places = list(range(size))
    random.Random(f"trueup order {seed} {epoch}").shuffle(places)
    return tuple(places)


def stratified(places: Sequence[int], strata: Sequence[Hashable]) -> tuple[int, ...]:
    """A shuffled order, dealt out so that every stretch of it holds its share of every stratum.
    The j-th of the n places of a stratum goes to the fraction (j + 1/2) / n of the pass, so that a stretch of B of N
    places holds B n / N places of each stratum, give or take one; within a stratum the order is kept."""
    members: dict[Hashable, list[int]] = {}
    for place in places:
        members.setdefault(strata[place], []).append(place)
    dealt: list[tuple[float, int, int]] = []
    for turn, group in enumerate(members.values()):
        dealt += [((number + 0.5) / len(group), turn, place) for number, place in enumerate(group)]
    return tuple(place for _, _, place in sorted(dealt))
