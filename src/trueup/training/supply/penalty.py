"""A KL penalty in the reward: R - beta log(pi / pi_ref)(y | x). Yuan et al., 2023, section 3.2 (OP-k with KL)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch

from trueup.batch.batch import collate_batch, cut
from trueup.batch.encode import Encoder
from trueup.batch.index import Demonstrations
from trueup.batch.logprobs import LogProbs
from trueup.batch.tokens import TokenGroup
from trueup.errors import InputError
from trueup.feedback.groups import DemonstrationRelation, Discarded
from trueup.feedback.records import Example
from trueup.feedback.views import group
from trueup.models.causal import StreamModel
from trueup.references.reference import Reference
from trueup.training.finite import check_finite


@dataclass(frozen=True)
class KLPenalty:
    """Takes beta log(pi / pi_ref)(y | x) off the score of every response, pi being the policy as it is now."""

    beta: float
    policy: StreamModel
    reference: Reference
    encoder: Encoder
    budget: int
    poll: Callable[[], None]

    def __call__(self, examples: Sequence[Example]) -> tuple[Sequence[Example], Mapping[str, float]]:
        groups: list[TokenGroup[Any]] = []
        for place, example in enumerate(examples):
            if any(one.score is None for one in example.responses):
                raise InputError(
                    "reward_kl takes its penalty off scores, but the annotator gives comparisons. Give one that "
                    "scores, such as --reward, or leave reward_kl out"
                )
            every = group(example, range(len(example.responses)), DemonstrationRelation())
            encoded = self.encoder.encode(every)
            if not isinstance(encoded, Discarded):
                tokens = encoded.tokens
                groups.append(TokenGroup(tokens.prompt, tokens.responses, place, tokens.origin))
        ratios = self._log_ratios(groups)
        made = [
            replace(
                example,
                responses=tuple(
                    replace(one, score=one.score - self.beta * ratio)
                    for one, ratio in zip(example.responses, ratios[place], strict=True)
                    if one.score is not None
                ),
            )
            for place, example in enumerate(examples)
            if place in ratios
        ]
        flat = [ratio for several in ratios.values() for ratio in several]
        return made, {"objective/kl": fmean(flat), "online/reward": _mean_score(made)} if flat else {}

    @torch.no_grad()
    def _log_ratios(self, groups: Sequence[TokenGroup[Any]]) -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        for part in cut(groups, self.budget):
            self.poll()
            batch = collate_batch(part, Demonstrations.collate).to(self.policy.device)
            with self.policy.without_dropout():
                ours = self.policy.outputs(batch.stream)
            theirs = self.reference.log_probs(batch)
            assert isinstance(ours, LogProbs) and theirs is not None
            ratio_N = ours.sum.double() - theirs.sum.double()
            check_finite(ratio_N, None, batch, 0, "log-ratio")
            values = iter(ratio_N.tolist())
            for one in part:
                found[one.relation] = [next(values) for _ in one.responses]
        return found


def _mean_score(examples: Sequence[Example]) -> float:
    return fmean(one.score for example in examples for one in example.responses if one.score is not None)
