"""Feedback gathered while training, round by round, or read from the log of a run that gathered it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from trueup.batch.batch import Batch, collate_batch, cut
from trueup.batch.index import Demonstrations
from trueup.batch.tokens import TokenGroup, tokens_identity
from trueup.errors import NumericsError
from trueup.feedback.records import Example, Prompt
from trueup.references.reference import State
from trueup.sampling.sampler import Sampler
from trueup.sources.gatherer import Gatherer
from trueup.sources.log import Log, Round
from trueup.sources.offline import OfflineSource, Pairing
from trueup.sources.rounds import Rounds

EMPTY_ROUNDS = 8
"""Rounds in a row of which nothing can be learned before a run stops."""


class Encode(Protocol):
    """Turns a round's examples into what the method trains on."""

    def __call__(self, examples: Sequence[Example]) -> tuple[list[TokenGroup[Any]], Mapping[str, float]]:
        """Token groups, and what is to be reported of those left out."""
        ...


class Learn(Protocol):
    """Makes a round of scored responses learnable, for policy gradients."""

    def __call__(
        self, groups: Sequence[TokenGroup[Any]], memory: Mapping[str, float]
    ) -> tuple[list[TokenGroup[Any]], Mapping[str, float], Mapping[str, float]]:
        """Groups with what is learned of each token, metrics, and what the next round has to know."""
        ...

    def saved(self, groups: Sequence[TokenGroup[Any]]) -> Mapping[str, Tensor]:
        """What was made of a round, for a checkpoint in the middle of it."""
        ...

    def restored(
        self, groups: Sequence[TokenGroup[Any]], tensors: Mapping[str, Tensor]
    ) -> list[TokenGroup[Any]]:
        """The opposite of `saved`, on the groups that `__call__` was given."""
        ...


@dataclass
class Current:
    """The round that is learned from."""

    number: int
    plain: list[TokenGroup[Any]]
    """As encoded."""
    groups: list[TokenGroup[Any]]
    """As learned from."""
    metrics: dict[str, float]


@dataclass(eq=False)
class OnlineSource:
    """Batches of rounds.

    Args:
        rounds: which prompts when.
        log: where rounds are written, and read from when they are there.
        prompts: all of them; empty for a replay.
        gatherer: samples and judges; None for a replay.
        encode: examples -> token groups.
        collate: the method's index.
        budget: stream tokens of a micro-batch.
        known: token groups of the prompts alone, which stand for the data before any is gathered.
        evaluation: held-out feedback.
        pairing: as for `OfflineSource`, within a step.
        learn: what policy gradients do to a round.
        resync: optimizer steps after which the sampler writes with the policy as it is.
        poll: may raise to stop.
    """

    rounds: Rounds
    log: Log
    prompts: Sequence[Prompt]
    gatherer: Gatherer | None
    encode: Encode
    collate: Callable[..., Any]
    budget: int
    known: Sequence[TokenGroup[Any]]
    evaluation: OfflineSource
    pairing: Pairing | None = None
    learn: Learn | None = None
    resync: int = 1
    poll: Callable[[], None] = lambda: None
    _current: Current | None = None
    _memory: dict[str, float] = field(default_factory=dict)
    _written_by: int = -1
    """Optimizer steps behind the sampler's weights; -1 before it has any."""
    _empty: int = 0
    _counted: int = 0
    """The last round that was looked at for whether it is empty."""

    @property
    def num_steps(self) -> int:
        return self.rounds.num_steps

    @property
    def has_held_out(self) -> bool:
        return self.evaluation.has_held_out

    def epoch(self, step: int) -> float:
        number = self.rounds.round_of(step)
        asked = len(self.rounds.places(number)) + (number - 1) * self.rounds.round_prompts
        return asked / self.rounds.prompts

    def first_groups(self) -> Sequence[TokenGroup[Any]]:
        return self.known[: self.rounds.batch_size]

    def first_batch(self) -> Batch[Any]:
        groups = next(cut(self.first_groups(), self.budget))
        return collate_batch(groups, Demonstrations.collate)

    def identity(self) -> str:
        return tokens_identity((*self.known, *self.evaluation.held_out_groups))

    def metrics(self, step: int) -> Mapping[str, float]:
        number = self.rounds.round_of(step)
        if step != self.rounds.first_step(number):
            return {}
        return self._round(number, step).metrics

    def batches(self, step: int) -> list[Batch[Any]]:
        return self._cut(self._step_groups(step), self.collate)

    def mismatched(self, step: int) -> list[Batch[Any]]:
        """Each prompt of a step with the responses of the next group that has another one."""
        if self.pairing is None:
            return []
        groups = self._step_groups(step)
        made = []
        for place, group in enumerate(groups):
            others = (groups[(place + more) % len(groups)] for more in range(1, len(groups)))
            made.append(next((pair for other in others if (pair := self.pairing(group, other))), None))
        return self._cut([group for group in made if group], Demonstrations.collate)

    def upcoming(self, step: int, count: int) -> None:
        return None

    def everything(self) -> None:
        return None

    def held_out(self) -> Iterator[Batch[Any]]:
        yield from self.evaluation.held_out()

    def held_out_batches(self) -> list[Batch[Any]]:
        return self.evaluation.held_out_batches()

    def held_out_mismatched(self) -> list[Batch[Any]]:
        return self.evaluation.held_out_mismatched()

    def state(self) -> State:
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Any] = {
            "memory": dict(self._memory), "written_by": self._written_by, "empty": [self._empty, self._counted],
        }  # fmt: skip
        if sampler := self._sampler:
            tensors |= {f"sampler.{name}": tensor for name, tensor in sampler.state().items()}
        if self._current and self.learn:
            facts |= {"round": self._current.number, "metrics": self._current.metrics}
            saved = self.learn.saved(self._current.groups)
            tensors |= {f"round.{name}": tensor for name, tensor in saved.items()}
        return State(tensors, facts)

    def restore(self, state: State) -> None:
        facts = state.facts
        self._memory = dict(facts["memory"])
        self._empty, self._counted = map(int, facts["empty"])
        self.log.check_has(self._counted)
        self._written_by = int(facts["written_by"])
        if (sampler := self._sampler) and self._written_by >= 0:
            sampler.restore(_part(state.tensors, "sampler."), self._written_by)
        if self.learn and "round" in facts:
            number = int(facts["round"])
            known = self.log.known(number)
            assert known is not None  # a checkpoint never knows of a round that its log does not
            plain, _ = self.encode(known.examples)
            groups = self.learn.restored(plain, _part(state.tensors, "round."))
            self._current = Current(number, plain, groups, dict(facts["metrics"]))

    @property
    def _sampler(self) -> Sampler | None:
        return self.gatherer.sampler if self.gatherer else None

    def _step_groups(self, step: int) -> list[TokenGroup[Any]]:
        current = self._round(self.rounds.round_of(step), step)
        return [current.groups[place] for place in self.rounds.chosen(step, len(current.groups))]

    def _round(self, number: int, step: int) -> Current:
        if self._current is None or self._current.number != number:
            self._refresh(step - 1)
            found = self.log.known(number) or self._gather(number)
            plain, more = self.encode(found.examples)
            metrics = {**found.facts, **more}
            groups = plain
            if self.learn and plain:
                groups, learned, memory = self.learn(plain, self._memory)
                self._memory = dict(memory)
                metrics |= learned
            self._count_empty(number, groups, metrics)
            self._current = Current(number, plain, groups, metrics)
        return self._current

    def _gather(self, number: int) -> Round:
        assert self.gatherer is not None
        prompts = [self.prompts[place] for place in self.rounds.places(number)]
        gathered = self.gatherer.gather(number, prompts)
        return self.log.add(number, self.rounds.count, len(prompts), gathered.examples, gathered.facts)

    def _refresh(self, done: int) -> None:
        """Bring the sampler's weights up to date where that is due after `done` optimizer steps."""
        due = done - done % self.resync
        if (sampler := self._sampler) and self._written_by < due:
            sampler.refresh(done)
            self._written_by = done

    def _count_empty(self, number: int, groups: Sequence[Any], metrics: Mapping[str, float]) -> None:
        if number > self._counted:
            self._empty, self._counted = 0 if groups else self._empty + 1, number
        ended = self.log.last is not None and number > self.log.last
        if self._empty >= EMPTY_ROUNDS and not ended:
            shown = ", ".join(
                f"{name} {value:.3g}" for name, value in metrics.items() if name.startswith("online/")
            )
            raise NumericsError(
                f"round {number}: the last {self._empty} rounds gave nothing to learn from ({shown}): responses to a "
                "prompt that are all the same, or judgements that tell none from another. If the policy has collapsed, "
                "begin again with a lower --learning-rate, a larger --beta or a higher --sampler.temperature"
            )

    def _cut(self, groups: Sequence[TokenGroup[Any]], collate: Callable[..., Any]) -> list[Batch[Any]]:
        return [collate_batch(part, collate) for part in cut(groups, self.budget)]


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
