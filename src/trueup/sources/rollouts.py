"""A round of scored responses, measured under policy and reference: penalised, or made learnable.
Shape suffixes: N rows (responses), S scored tokens of all rows."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch

from trueup import errors, stop, words
from trueup.batch import encode, stream
from trueup.batch.rows import Demonstrations, LogProbs, RolloutRelation, RolloutRow
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.feedback import records, views
from trueup.models.causal import CausalModel, StreamModel
from trueup.objectives.rollout import Rollout, ScoredRound
from trueup.parallel.processes import together
from trueup.references.reference import NullReference, Reference
from trueup.sampling.sampler import Sampled, SamplingWeights
from trueup.sources.source import passes

Group = TokenGroup[Any]
Learned = TokenGroup[RolloutRelation]
Examples = Sequence[records.Example]

GAP = 32  # responses of a round whose log-probabilities are compared with the sampler's
NAMES = tuple(field.name for field in fields(RolloutRow))


@dataclass(frozen=True)
class Advantages:
    """Measures a round's responses under policy and reference, and has a method say what each token teaches.
    `budget`, stream tokens of a forward pass, changes rounding alone; responses without one of `end_ids` ran out."""

    rollout: Rollout
    policy: StreamModel
    reference: Reference
    end_ids: Collection[int]
    budget: int

    def __call__(
        self, groups: Sequence[TokenGroup[records.RankRelation]], memory: Mapping[str, float]
    ) -> tuple[list[Learned], Mapping[str, float], Mapping[str, float]]:
        """What a round's responses teach: the groups, metrics of the round, and the `memory` for the next one."""
        given = self._round(groups)
        made = self.rollout(given, memory)
        values = given.log_probs.value_S
        before = torch.zeros_like(made.target_S) if values is None else values
        arrays = {"old_log_prob": given.log_probs.token_S, "old_value": before}
        arrays |= {"advantage": made.advantage_S, "target": made.target_S}
        for name in ("advantage", "target"):
            _check(arrays[name], given.log_probs.length_N, groups, name)
        return from_tensors(groups, arrays), made.metrics, made.memory

    def _round(self, groups: Sequence[TokenGroup[records.RankRelation]]) -> ScoredRound:
        """The groups under policy and reference, on the CPU, in the order given."""
        passes = list(measured(groups, self.policy, self.reference, self.budget))
        computed = (id(group) for part, _, _ in passes for group in part for _ in group.responses)
        rows: dict[int, list[int]] = {}
        for row, key in enumerate(computed):
            rows.setdefault(key, []).append(row)
        order = [row for group in groups for row in rows[id(group)]]
        references = [theirs for _, _, theirs in passes if theirs is not None]
        return ScoredRound(
            _joined([ours for _, ours, _ in passes], order),
            _joined(references, order) if references else None,
            torch.tensor([score for group in groups for score in group.relation.scores], dtype=torch.float64),
            torch.tensor([place for place, group in enumerate(groups) for _ in group.responses]),
            torch.tensor([int(row.ids[-1]) in self.end_ids for group in groups for row in group.responses]),
        )


def to_tensors(groups: Sequence[Learned]) -> dict[str, torch.Tensor]:
    """What is learned of a round's tokens, as [S] tensors in the order of the groups: for a checkpoint."""
    rows = [row for group in groups for row in group.relation.rows]
    return {name: torch.from_numpy(np.concatenate([getattr(row, name) for row in rows])) for name in NAMES}


def from_tensors(groups: Sequence[Group], tensors: Mapping[str, torch.Tensor]) -> list[Learned]:
    """The groups with what `to_tensors` kept of them; CheckpointError where the tensors are of other responses."""
    lengths = [int(row.scored.sum()) for group in groups for row in group.responses]
    sizes = {len(tensors[name]) for name in NAMES if name in tensors}
    if not tensors.keys() >= set(NAMES) or sizes != {sum(lengths)}:
        raise errors.CheckpointError(
            f"the saved round holds {sorted(sizes)} tokens, and its responses have {sum(lengths)}: it is of another log"
        )
    parts = [tensors[name].detach().to("cpu", torch.float32).split(lengths) for name in NAMES]
    rows = iter([RolloutRow(*(part.numpy() for part in row)) for row in zip(*parts, strict=True)])
    relations = [RolloutRelation(tuple(next(rows) for _ in group.responses)) for group in groups]
    return [replace(group, relation=own) for group, own in zip(groups, relations, strict=True)]


@dataclass(frozen=True)
class KLPenalty:
    """Takes beta log(pi / pi_ref)(y | x) off the score of every response, pi being the policy as it is now.
    Yuan et al., 2023, https://arxiv.org/abs/2304.05302, section 3.2 (OP-k with KL)."""

    beta: float
    policy: StreamModel
    reference: Reference
    encoder: encode.Encoder
    budget: int

    def __call__(self, examples: Examples) -> tuple[Examples, Mapping[str, float]]:
        if any(one.score is None for example in examples for one in example.responses):
            raise errors.InputError(
                "reward_kl takes its penalty off scores, but the annotator gives comparisons. Give one that scores, "
                "such as --reward, or leave reward_kl out"
            )
        ratios = log_ratios(examples, self.encoder, self.policy, self.reference, self.budget)
        made = []
        for place, several in ratios.items():
            both = zip(examples[place].responses, several, strict=True)
            less = [replace(one, score=(one.score or 0.0) - self.beta * ratio) for one, ratio in both]
            made.append(replace(examples[place], responses=tuple(less)))
        flat = [ratio for several in ratios.values() for ratio in several]
        if not flat:
            return made, {}
        return made, {"objective/kl": fmean(flat), "online/reward": fmean(records.scores_of(made))}


@dataclass(frozen=True)
class LogProbGap:
    """How far the log-probabilities that a sampler tells of its tokens are from those that training gives them.
    Both are of the same weights, so that a gap comes of rounding, or of a server with other weights.
    Policy gradients take them for equal; where they are not, an on-policy method is off-policy without knowing it.
    `encoder` is as the prompts are asked; `budget`, most stream tokens of a forward pass."""

    policy: StreamModel
    encoder: encode.Encoder
    budget: int

    def __call__(
        self, prompts: Sequence[records.Prompt], sampled: Sequence[Sequence[Sampled]],
        weights: SamplingWeights,
    ) -> dict[str, float]:  # fmt: skip
        """Metrics of a round, in nats a token, over the first `GAP` responses; none where none are told.
        `gap` is the mean of |log p - log q|, q being the sampler's; `gap_max` the greatest; `gap_kl` an estimate of
        KL(q || p), the mean of r - 1 - log r with r = p / q (Schulman, 2020, http://joschu.net/blog/kl-approx.html)."""
        groups: list[Group] = []
        told: list[list[float]] = []
        for prompt, several in zip(prompts, sampled, strict=True):
            known = [(one.ids, one.log_probs) for one in several if one.ids and one.log_probs]
            if not known or len(told) >= GAP:
                continue
            ids = [np.array(one, np.int32) for one, _ in known]
            rows = tuple(TokenRow(one, np.ones(len(one), np.bool_)) for one in ids)
            prompt_ids = np.array(self.encoder.cut_prompt_ids(prompt), np.int32)
            groups.append(TokenGroup(prompt_ids, rows, len(told)))
            told += [list(values or ()) for _, values in known]
        apart: list[torch.Tensor] = []
        with weights.in_place(), plain_temperature(self.policy):
            for part, ours, _ in measured(groups, self.policy, NullReference(), self.budget):
                every = [told[one.relation + at] for one in part for at in range(len(one.responses))]
                theirs = torch.tensor([value for row in every for value in row], dtype=torch.float64)
                apart.append(ours.token_S.double() - theirs)
        if not apart:
            return {}
        apart_S = torch.cat(apart)
        kl = (apart_S.exp() - 1 - apart_S).mean()
        found = {"gap": apart_S.abs().mean(), "gap_max": apart_S.abs().max(), "gap_kl": kl}
        return {f"online/{name}": float(value) for name, value in found.items()}


def log_ratios(
    examples: Examples, encoder: encode.Encoder, policy: StreamModel, reference: Reference, budget: int
) -> dict[int, list[float]]:
    """Place of an example -> log(pi / pi_ref)(y | x) of each of its responses; absent where it cannot be encoded."""
    groups: list[Group] = []
    for place, example in enumerate(examples):
        every = views.group(example, range(len(example.responses)), records.DemonstrationRelation())
        encoded = encoder.encode(every)
        if not isinstance(encoded, records.Discarded):
            groups.append(replace(encoded.tokens, relation=place))  # type: ignore[arg-type]
    ratios: dict[int, list[float]] = {}
    for part, ours, theirs in measured(groups, policy, reference, budget):
        assert theirs is not None
        values = iter((ours.sum.double() - theirs.sum.double()).tolist())
        for one in part:
            ratios[one.relation] = [next(values) for _ in one.responses]
    return dict(sorted(ratios.items()))


@contextmanager
def plain_temperature(policy: StreamModel) -> Iterator[None]:
    """The policy at temperature 1 while the block runs, at which samplers tell log-probabilities."""
    if not isinstance(policy, CausalModel) or policy.temperature == 1:
        yield
        return
    before = policy.temperature
    policy.set_temperature(1.0)
    try:
        yield
    finally:
        policy.set_temperature(before)


@torch.no_grad()
def measured(
    groups: Sequence[Group], policy: StreamModel, reference: Reference, budget: int
) -> Iterator[tuple[list[Group], LogProbs, LogProbs | None]]:
    """Groups, a forward pass's worth at a time, under policy and reference, without dropout and all of it finite."""
    place = {id(group): number for number, group in enumerate(groups)}
    own: list[tuple[list[int], LogProbs, LogProbs | None]] = []
    for part, idle in passes(groups, budget):
        stop.check_together()
        made: stream.Batch[Demonstrations] = stream.collate_batch(part, Demonstrations.collate)
        batch = made.to(policy.device)
        with policy.without_dropout():
            ours = policy.outputs(batch.stream, policy.parts)
        theirs = reference.log_probs(batch)
        assert isinstance(ours, LogProbs)
        if not idle:
            own.append(([place[id(group)] for group in part], ours, theirs))
    every = together(lambda: [_checked(groups, *one) for one in own])
    for places, ours, theirs in (one for several in every for one in several):
        yield [groups[number] for number in places], ours, theirs


def _checked(
    groups: Sequence[Group], places: list[int], ours: LogProbs, theirs: LogProbs | None
) -> tuple[list[int], LogProbs, LogProbs | None]:
    """What a forward pass gave, on the CPU, once it is seen to be finite."""
    part = [groups[number] for number in places]
    _check(ours.token_S, ours.length_N, part, "log-probability")
    if ours.value_S is not None:
        _check(ours.value_S, ours.length_N, part, "value")
    if theirs is not None:
        _check(theirs.token_S, theirs.length_N, part, "log-probability under the reference")
    cpu = torch.device("cpu")
    return places, stream.on_device(ours, cpu), None if theirs is None else stream.on_device(theirs, cpu)


def _joined(parts: Sequence[LogProbs], order: Sequence[int]) -> LogProbs:
    """The rows of several forward passes as one, in an order of their numbers, on the CPU."""
    lengths = torch.cat([part.length_N for part in parts]).cpu()

    def ordered(values: Sequence[torch.Tensor]) -> torch.Tensor:
        rows = torch.cat(list(values)).cpu().split(lengths.tolist())
        return torch.cat([rows[row] for row in order])

    values = [part.value_S for part in parts if part.value_S is not None]
    tokens = ordered([part.token_S for part in parts])
    return LogProbs(tokens, lengths[list(order)], None, ordered(values) if values else None)


def _check(values_S: torch.Tensor, length_N: torch.Tensor, groups: Sequence[Group], what: str) -> None:
    """Refuse values of tokens that are not finite, naming the responses they belong to."""
    bad_S = ~values_S.isfinite()
    if not bad_S.any():
        return
    every = ((group.origin, number) for group in groups for number in range(1, len(group.responses) + 1))
    names = [f"response {number} of {origin or 'a prompt without origin'}" for origin, number in every]
    row_S = torch.arange(len(names), device=length_N.device).repeat_interleave(length_N)
    rows = [names[row] for row in row_S[bad_S].unique().tolist()]
    raise errors.NumericsError(
        f"the {what} of {words.listed(rows)} is not finite ({values_S[bad_S][0].item()}), so nothing can be learned "
        "from the round; the last checkpoint is intact. Go on from it with a lower --learning-rate in mind"
    )
