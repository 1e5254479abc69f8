"""Feedback gathered while training, round by round, or read from the log of a run that gathered it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from torch import Tensor

from trueup.annotators.annotator import SCORE_OF, Annotator
from trueup.annotators.comparing import UNDECIDED
from trueup.batch.tokens import TokenGroup, tokens_identity
from trueup.errors import AnnotatorError, NumericsError
from trueup.feedback.condition import Condition
from trueup.feedback.records import Discarded, Example, Prompt, Response, content_key, scores_of
from trueup.parallel.processes import owned, rank, size, together
from trueup.parallel.sharding import unsharded
from trueup.references.reference import State
from trueup.sampling.sampler import Sampled, Sampler
from trueup.sources import rollouts, source
from trueup.sources.log import GatheredRound, Log, RoundLog

Penalise = Callable[[Sequence[Example]], tuple[Sequence[Example], Mapping[str, float]]]
"""Examples with scores -> the same with something taken off them, and what is to be reported of it."""
EMPTY_ROUNDS = 8  # rounds in a row of which nothing can be learned before a run stops


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """Which prompts a round asks and which steps learn from it: rounds laid end to end over passes through the prompts.
    Example: 100 prompts, a batch of 8, rounds of 16 prompts with 4 passes are 8 steps a round; 200 prompts in all
    are 13 rounds, the last of 8 prompts and 4 steps."""

    prompts: int
    batch_size: int  # prompts whose responses one optimizer step learns from
    round_prompts: int
    passes: int
    total: int  # prompts of the whole run, over all passes through them
    seed: int
    steps: int | None = None
    """Optimizer steps after which the run ends, in the middle of a round or not; None takes all of them."""

    @property
    def count(self) -> int:
        return math.ceil(self.total / self.round_prompts)

    @property
    def num_steps(self) -> int:
        full, rest = divmod(self.total, self.round_prompts)
        every = full * self._steps(self.round_prompts) + (self._steps(rest) if rest else 0)
        return every if self.steps is None else min(every, self.steps)

    def round_of(self, step: int) -> int:
        return (step - 1) // self._steps(self.round_prompts) + 1

    def first_step(self, number: int) -> int:
        return (number - 1) * self._steps(self.round_prompts) + 1

    def places(self, number: int) -> list[int]:
        first = (number - 1) * self.round_prompts
        every = (divmod(at, self.prompts) for at in range(first, min(first + self.round_prompts, self.total)))
        return [source.order(self.seed, epoch, self.prompts)[within] for epoch, within in every]

    def chosen(self, step: int, size: int) -> list[int]:
        """Which of the `size` examples that a round gave step `step` learns from.
        A pass deals them out evenly, in an order of its own where it takes several steps; where a round gave fewer
        than its prompts, all of its steps are somewhat smaller."""
        number = self.round_of(step)
        per_pass = self._batches(len(self.places(number)))
        which, part = divmod(step - self.first_step(number), per_pass)
        places = source.order(self.seed, 1_000_000 * number + which, size) if per_pass > 1 else range(size)
        return list(places[part * size // per_pass : (part + 1) * size // per_pass])

    def _steps(self, prompts: int) -> int:
        return self.passes * self._batches(prompts)

    def _batches(self, prompts: int) -> int:
        return math.ceil(prompts / self.batch_size)


@dataclass(frozen=True)
class Collector:
    """Samples responses and has them judged.
    `distinct` leaves out equal responses, where each is no draw of an expectation; `penalise` changes the scores; `gap`
    compares what the sampler tells of its tokens with what training computes; `beside` are models that write beside the
    policy, as sharded as it is."""

    sampler: Sampler
    annotator: Annotator
    responses: int
    seed: int
    distinct: bool = True
    penalise: Penalise | None = None
    gap: rollouts.LogProbGap | None = None
    beside: Sequence[Any] = ()

    def collect(self, number: int, prompts: Sequence[Prompt], also: Sequence[Example] = ()) -> GatheredRound:
        """The examples of a round; responses of `also`, a data set's feedback on its prompts, are judged too."""
        sampled = self.sampled(prompts, self.seed * 1_000_003 + number)
        flat = [one for several in sampled for one in several]
        if flat and not any(one.text.strip() for one in flat):
            raise AnnotatorError(
                f"round {number}: all {len(flat)} responses to {len(prompts)} prompts are empty. Look at them with "
                "`trueup sample`, and at sampler.stop and the chat template"
            )
        metrics = _of_samples(flat)
        if self.gap is not None:
            metrics |= self.gap(prompts, sampled, self.sampler.weights)
        examples, left_out = self._examples(prompts, sampled, also)
        metrics["online/identical"] = left_out / max(len(flat), 1)
        compares = self.annotator.gives == "comparisons"
        alone = [one for one in examples if len(one.responses) < 2] if compares else []
        compared = [one for one in examples if len(one.responses) > 1] if compares else examples
        judged = owned(lambda: self.annotator.annotate(compared))
        for name, value in judged.totals.items():
            if not name.startswith(SCORE_OF):
                metrics[f"annotator/{name}"] = float(value)
            elif count := judged.totals["scores"]:
                metrics[f"online/score/{name.removeprefix(SCORE_OF)}"] = value / count
        made: Sequence[Example] = judged.kept
        both = zip(compared, judged.examples, strict=True)
        undecided = [one for one, said in both if isinstance(said, Discarded) and said.reason == UNDECIDED]
        metrics["online/without_judgement"] = (len(prompts) - len(made)) / max(len(prompts), 1)
        if alone:
            metrics["online/one_response"] = len(alone) / len(prompts)
        if scores := scores_of(made):
            metrics["online/score"] = fmean(scores)
        if self.penalise is not None and made:
            made, more = self.penalise(made)
            metrics |= more
        return GatheredRound((*made, *undecided), metrics)

    def sampled(self, prompts: Sequence[Prompt], seed: int) -> Sequence[Sequence[Sampled]]:
        """Responses to each prompt: of several processes each writes its share, or the first asks a server."""
        sampler, count = self.sampler, size()
        if count == 1 or sampler.served:
            return sampler.sample(prompts, self.responses, seed=seed)
        with sampler.weights.in_place(), unsharded(sampler.weights.model, *self.beside):
            # All copies of a prompt go to one process, as a response hangs on how many were written to it before.
            texts = [str(prompt.content) for prompt in prompts]
            writers = {text: place % count for place, text in enumerate(dict.fromkeys(texts))}
            own = [prompt for prompt, text in zip(prompts, texts, strict=True) if writers[text] == rank()]
            shares = list(map(iter, together(lambda: sampler.sample(own, self.responses, seed=seed))))
        return [next(shares[writers[text]]) for text in texts]

    def _examples(
        self, prompts: Sequence[Prompt], sampled: Sequence[Sequence[Sampled]], also: Sequence[Example]
    ) -> tuple[list[Example], int]:
        """An example of each prompt that got a response, and how many responses another one repeats."""
        known: dict[object, list[Response]] = {}
        for example in also:
            bare = [replace(one, score=None, label=None, demonstration=False) for one in example.responses]
            known.setdefault(example.prompt.key, []).extend(bare)
        examples, left_out = [], 0
        for prompt, several in zip(prompts, sampled, strict=True):
            by = ((one, f"{one.source}@{one.version}") for one in several)
            written = [Response(one.text, source=source, tokens=one.ids) for one, source in by]
            written += known.get(prompt.key, [])
            if self.distinct:
                # Of equals the first stays.
                once = {content_key(one.content): one for one in reversed(written)}
                kept = [one for one in written if once[content_key(one.content)] is one]
                left_out += len(written) - len(kept)
                written = kept
            if written:
                examples.append(Example(prompt, tuple(written)))
        return examples, left_out


def _of_samples(flat: Sequence[Sampled]) -> dict[str, float]:
    if not flat:
        return {"online/responses": 0.0}
    known = [len(one.ids) for one in flat if one.ids is not None]
    return {
        "online/responses": float(len(flat)),
        "online/ended": fmean(one.ended for one in flat),
        "online/distinct": len({one.text for one in flat}) / len(flat),
        "online/words": fmean(len(one.text.split()) for one in flat),
    } | ({"online/tokens": fmean(known)} if known else {})


@dataclass(eq=False)
class GatheredRounds:
    """Rounds that are sampled and judged where the log does not hold them; `resync` steps renew the sampler."""

    plan: RoundPlan
    log: RoundLog
    prompts: Sequence[Prompt]
    collector: Collector
    resync: int = 1
    _version: int = -1  # optimizer steps behind the sampler's weights; -1 before it has any

    def get(self, number: int, done: int) -> GatheredRound:
        """A round, of weights that are current after `done` optimizer steps or lag behind them."""
        if self._version < done - done % self.resync:
            self.collector.sampler.weights.refresh(done)
            self._version = done
        if (known := self.log.known(number)) is not None:
            return known
        prompts = [self.prompts[place] for place in self.plan.places(number)]
        made = self.collector.collect(number, prompts)
        return self.log.add(number, self.plan.count, len(prompts), made.examples, made.metrics)

    def state(self) -> State:
        tensors = self.collector.sampler.weights.state()
        return State({f"sampler.{name}": one for name, one in tensors.items()}, {"written_by": self._version})

    def restore(self, state: State) -> None:
        self._version = int(state.metadata["written_by"])
        if self._version >= 0:
            self.collector.sampler.weights.restore(_part(state.tensors, "sampler."), self._version)


@dataclass
class Current:
    number: int
    groups: list[TokenGroup[Any]]
    metrics: dict[str, float]


@dataclass(eq=False)
class OnlineSource(source.Source):
    """Batches of rounds.
    `encode` makes groups of a round's examples; `condition_of` says what is written into prompts; `known` groups
    stand for the data before any is gathered; `gathered` is None for a run that is over."""

    plan: RoundPlan
    log: Log
    encode: Callable[[Sequence[Example]], tuple[list[TokenGroup[Any]], Mapping[str, float]]]
    condition_of: Callable[[Sequence[Example]], Condition | None]
    batching: source.Batching
    known: Sequence[TokenGroup[Any]]
    held_out_groups: Sequence[TokenGroup[Any]] = ()
    gathered: GatheredRounds | None = None
    advantages: rollouts.Advantages | None = None
    _current: Current | None = None
    _memory: dict[str, float] = field(default_factory=dict)
    _empty: int = 0
    _counted: int = 0  # the last round that was looked at for whether it is empty

    @property
    def num_steps(self) -> int:
        return self.plan.num_steps

    @property
    def condition(self) -> Condition | None:
        """Of all that the run learns from, which is known once it is over."""
        rounds = range(1, self.plan.round_of(self.num_steps) + 1)
        known = [one for one in map(self.log.known, rounds) if one is not None]
        return self.condition_of([example for one in known for example in one.examples])

    def epoch(self, step: int) -> float:
        number = self.plan.round_of(step)
        prompts = len(self.plan.places(number)) + (number - 1) * self.plan.round_prompts
        return prompts / self.plan.prompts

    def first_groups(self) -> Sequence[TokenGroup[Any]]:
        return self.known[: self.plan.batch_size]

    def identity(self) -> str:
        return tokens_identity((*self.known, *self.held_out_groups))

    def metrics(self, step: int) -> Mapping[str, float]:
        number = self.plan.round_of(step)
        return self._round(number, step).metrics if step == self.plan.first_step(number) else {}

    def step(self, number: int) -> source.Step:
        groups = self._round(self.plan.round_of(number), number).groups
        return self.batching.step([groups[place] for place in self.plan.chosen(number, len(groups))])

    def state(self) -> State:
        of_rounds = self.gathered.state() if self.gathered else State()
        tensors, metadata = dict(of_rounds.tensors), dict(of_rounds.metadata)
        metadata |= {"memory": dict(self._memory), "empty": [self._empty, self._counted]}
        if self._current and self.advantages:
            metadata |= {"round": self._current.number, "metrics": self._current.metrics}
            saved = rollouts.to_tensors(self._current.groups)
            tensors |= {f"round.{name}": tensor for name, tensor in saved.items()}
        return State(tensors, metadata)

    def restore(self, state: State) -> None:
        metadata = state.metadata
        self._memory = dict(metadata["memory"])
        self._empty, self._counted = map(int, metadata["empty"])
        self.log.check_has(self._counted)
        if self.gathered:
            self.gathered.restore(state)
        if self.advantages and "round" in metadata:
            number = int(metadata["round"])
            known = self.log.known(number)
            assert known is not None  # a checkpoint never knows of a round that its log does not
            plain, _ = self.encode(known.examples)
            groups = rollouts.from_tensors(plain, _part(state.tensors, "round."))
            self._current = Current(number, groups, dict(metadata["metrics"]))

    def _round(self, number: int, step: int) -> Current:
        if self._current is None or self._current.number != number:
            found = self.gathered.get(number, step - 1) if self.gathered else self.log.known(number)
            assert found is not None  # the log of a run that is over knows all
            groups, lost = self.encode(found.examples)
            metrics = {**found.metrics, **lost}
            if self.advantages and groups:
                groups, learned, memory = self.advantages(groups, self._memory)
                self._memory = dict(memory)
                metrics |= learned
            self._count_empty(number, groups, metrics)
            self._current = Current(number, groups, metrics)
        return self._current

    def _count_empty(self, number: int, groups: Sequence[Any], metrics: Mapping[str, float]) -> None:
        if number > self._counted:
            self._empty, self._counted = 0 if groups else self._empty + 1, number
        if self._empty >= EMPTY_ROUNDS and number <= self.log.last:
            told = [f"{name} {value:.3g}" for name, value in metrics.items() if name.startswith("online/")]
            shown = ", ".join(told)
            raise NumericsError(
                f"round {number}: the last {self._empty} rounds gave nothing to learn from ({shown}): responses to a "
                "prompt that are all the same, or judgements that tell none from another. If the policy has collapsed, "
                "begin again with a lower --learning-rate, a larger --beta or a higher --sampler.temperature"
            )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
