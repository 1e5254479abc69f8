"""A round of scored responses, measured under policy and reference and made learnable.

Shape suffixes: N rows (responses), S scored tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueup.batch.batch import Batch, collate_batch, cut
from trueup.batch.index import Demonstrations, RolloutRelation, RolloutRow
from trueup.batch.logprobs import LogProbs
from trueup.batch.tokens import TokenGroup
from trueup.errors import CheckpointError, NumericsError
from trueup.feedback.groups import RankRelation
from trueup.models.causal import StreamModel
from trueup.objectives.rollout import Rollout, Round
from trueup.references.reference import Reference
from trueup.words import listed

Measured = tuple[LogProbs, LogProbs | None]
"""Of one group, under the policy and under the reference."""
NAMES = tuple(field.name for field in fields(RolloutRow))


def learnable(
    groups: Sequence[TokenGroup[RankRelation]],
    policy: StreamModel,
    reference: Reference,
    rollout: Rollout,
    memory: Mapping[str, float],
    *,
    end_ids: Collection[int],
    budget: int,
    poll: Callable[[], None] = lambda: None,
) -> tuple[list[TokenGroup[RolloutRelation]], Mapping[str, float], Mapping[str, float]]:
    """What a round's responses teach.

    Args:
        groups: prompts with responses and the score of each.
        policy: as it was when the round was written.
        reference: what the KL penalty in the reward is measured against.
        rollout: the method's.
        memory: what the round before left.
        end_ids: tokens that end a response; one without them ran out of tokens.
        budget: most stream tokens of a forward pass; it changes rounding alone.
        poll: may raise to stop.

    Returns:
        The groups with what is learned of each token, metrics of the round, and what the next one has to know.

    Raises:
        NumericsError: a log-probability, a value or an advantage is not finite; the responses are named.
    """
    measured = _measured(groups, policy, reference, budget, poll)
    given = _round(groups, measured, end_ids)
    made = rollout(given, memory)
    values = given.log_probs.value_S
    arrays = {
        "old_log_prob": given.log_probs.token_S,
        "advantage": made.advantage_S,
        "target": made.target_S,
        "old_value": torch.zeros_like(made.target_S) if values is None else values,
    }
    for name in ("advantage", "target"):
        _check(arrays[name], given.log_probs.length_N, groups, name)
    return from_tensors(groups, arrays), made.metrics, made.memory


def to_tensors(groups: Sequence[TokenGroup[RolloutRelation]]) -> dict[str, Tensor]:
    """What is learned of a round's tokens, as [S] tensors in the order of the groups: for a checkpoint."""
    rows = [row for group in groups for row in group.relation.rows]
    return {name: torch.from_numpy(np.concatenate([getattr(row, name) for row in rows])) for name in NAMES}


def from_tensors(
    groups: Sequence[TokenGroup[Any]], tensors: Mapping[str, Tensor]
) -> list[TokenGroup[RolloutRelation]]:
    """The groups with what `to_tensors` kept of them.

    Args:
        groups: the same responses, whatever relates them.

    Raises:
        CheckpointError: the tensors are of other responses.
    """
    lengths = [int(row.scored.sum()) for group in groups for row in group.responses]
    sizes = {len(tensors[name]) for name in NAMES if name in tensors}
    if not tensors.keys() >= set(NAMES) or sizes != {sum(lengths)}:
        raise CheckpointError(
            f"the saved round holds {sorted(sizes)} tokens, and its responses have {sum(lengths)}: it is of another log"
        )
    parts = [tensors[name].detach().to("cpu", torch.float32).split(lengths) for name in NAMES]
    rows = iter([RolloutRow(*(part.numpy() for part in row)) for row in zip(*parts, strict=True)])
    return [
        replace(group, relation=RolloutRelation(tuple(next(rows) for _ in group.responses)))
        for group in groups
    ]


@torch.no_grad()
def _measured(
    groups: Sequence[TokenGroup[RankRelation]],
    policy: StreamModel,
    reference: Reference,
    budget: int,
    poll: Callable[[], None],
) -> list[Measured]:
    """Each group under policy and reference, in the order given, without dropout."""
    places = {id(group): place for place, group in enumerate(groups)}
    found: dict[int, Measured] = {}
    for part in cut(groups, budget):
        poll()
        batch: Batch[Demonstrations] = collate_batch(part, Demonstrations.collate).to(policy.device)
        with policy.without_dropout():
            ours = policy.outputs(batch.stream, policy.parts)
        theirs = reference.log_probs(batch)
        assert isinstance(ours, LogProbs)
        _check(ours.token_S, ours.length_N, part, "log-probability")
        if ours.value_S is not None:
            _check(ours.value_S, ours.length_N, part, "value")
        if theirs is not None:
            _check(theirs.token_S, theirs.length_N, part, "log-probability under the reference")
        sizes = [len(group.responses) for group in part]
        others = [None] * len(part) if theirs is None else _split(theirs, sizes)
        for group, one, other in zip(part, _split(ours, sizes), others, strict=True):
            found[places[id(group)]] = one, other
    return [found[place] for place in range(len(groups))]


def _split(given: LogProbs, sizes: Sequence[int]) -> list[LogProbs]:
    """Groups of so many rows each, on the CPU."""
    lengths = given.length_N.cpu().split(list(sizes))
    tokens = [int(length_N.sum()) for length_N in lengths]
    token_parts = given.token_S.cpu().split(tokens)
    if given.value_S is None:
        return [LogProbs(*part) for part in zip(token_parts, lengths, strict=True)]
    value_parts = given.value_S.cpu().split(tokens)
    return [
        LogProbs(token_S, length_N, None, value_S)
        for token_S, length_N, value_S in zip(token_parts, lengths, value_parts, strict=True)
    ]


def _joined(parts: Sequence[LogProbs]) -> LogProbs:
    values = [part.value_S for part in parts if part.value_S is not None]
    return LogProbs(
        torch.cat([part.token_S for part in parts]),
        torch.cat([part.length_N for part in parts]),
        None,
        torch.cat(values) if values else None,
    )


def _round(
    groups: Sequence[TokenGroup[RankRelation]], measured: Sequence[Measured], end_ids: Collection[int]
) -> Round:
    references = [theirs for _, theirs in measured if theirs is not None]
    return Round(
        _joined([ours for ours, _ in measured]),
        _joined(references) if references else None,
        torch.tensor([score for group in groups for score in group.relation.scores], dtype=torch.float64),
        torch.tensor([place for place, group in enumerate(groups) for _ in group.responses]),
        torch.tensor([int(row.ids[-1]) in end_ids for group in groups for row in group.responses]),
    )


def _check(values_S: Tensor, length_N: Tensor, groups: Sequence[TokenGroup[Any]], what: str) -> None:
    """Refuse values of tokens that are not finite, naming the responses they belong to."""
    bad_S = ~values_S.isfinite()
    if not bad_S.any():
        return
    names = [
        f"response {number} of {group.origin or 'a prompt without origin'}"
        for group in groups
        for number in range(1, len(group.responses) + 1)
    ]
    row_S = torch.arange(len(names), device=length_N.device).repeat_interleave(length_N)
    rows = [names[row] for row in row_S[bad_S].unique().tolist()]
    raise NumericsError(
        f"the {what} of {listed(rows)} is not finite ({values_S[bad_S][0].item()}), so nothing can be learned from the "
        "round; the last checkpoint is intact. Go on from it with a lower --learning-rate in mind"
    )
