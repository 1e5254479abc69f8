"""How far a policy has moved, on responses it writes itself."""

from collections.abc import Sequence

import numpy as np
import torch

from trueup.batch.stream import build_stream, cut
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.evaluate.estimates import Mean, mean
from trueup.models.causal import CausalModel
from trueup.sampling.sampler import Completion

BUDGET = 8192
"""Tokens of a forward pass."""


@torch.no_grad()
def sequence_kl(
    policy: CausalModel,
    start: CausalModel,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Completion],
    *,
    end_id: int,
    start_prompts: Sequence[Sequence[int]] | None = None,
) -> Mean:
    """KL(policy || start) in nats a response: the mean of log pi(y | x) - log pi_start(y | x), y sampled from pi.

    Args:
        completions: one response of `policy` for each prompt, sampled at temperature 1.
        end_id: the end of sequence, scored where the policy wrote it.
        start_prompts: the same prompts as `start` is asked them, where that is in other words, as it is for a
            policy that is asked with a condition; None where it is not.

    Returns:
        The estimate with its standard error; unbiased, and so it may come out slightly negative.
    """
    ours = _log_probs(policy, prompts, completions, end_id)
    theirs = _log_probs(start, prompts if start_prompts is None else start_prompts, completions, end_id)
    return mean([one - other for one, other in zip(ours, theirs, strict=True)])


def _log_probs(
    model: CausalModel, prompts: Sequence[Sequence[int]], completions: Sequence[Completion], end_id: int
) -> list[float]:
    """log p(y | x) of each response that says anything, in their order."""
    groups: list[TokenGroup[int]] = [
        TokenGroup(np.array(prompt, np.int32), (_row(response, end_id),), place)
        for place, (prompt, response) in enumerate(zip(prompts, completions, strict=True))
        if response.ids or response.ended
    ]
    found: dict[int, float] = {}
    with model.without_dropout():
        for part in cut(groups, BUDGET):
            sums = model.log_probs(build_stream(part).to(model.device)).sum.tolist()
            found |= dict(zip((group.relation for group in part), sums, strict=True))
    return [found[group.relation] for group in groups]


def _row(response: Completion, end_id: int) -> TokenRow:
    ids = [*response.ids, end_id] if response.ended else list(response.ids)
    return TokenRow(np.array(ids, np.int32), np.ones(len(ids), np.bool_))
