"""How far a policy has moved, on responses it writes itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from trueup.batch.batch import cut
from trueup.batch.stream import build_stream
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.evaluate.mean import Mean, mean
from trueup.models.causal import CausalModel
from trueup.sampling.in_process import Drawn


@torch.no_grad()
def sequence_kl(
    policy: CausalModel,
    start: CausalModel,
    prompts: Sequence[Sequence[int]],
    drawn: Sequence[Drawn],
    *,
    end_id: int,
    budget: int = 8192,
) -> Mean:
    """KL(policy || start) in nats a response: the mean of log pi(y | x) - log pi_start(y | x), y drawn from pi.

    Args:
        drawn: one response of `policy` for each prompt, drawn at temperature 1.
        end_id: the end of sequence, scored where the policy wrote it.

    Returns:
        The estimate with its standard error; unbiased, and so it may come out slightly negative.
    """
    groups = [
        TokenGroup(np.array(prompt, np.int32), (_row(response, end_id),), None)
        for prompt, response in zip(prompts, drawn, strict=True)
        if response.ids or response.ended
    ]
    ratios: list[float] = []
    with policy.without_dropout(), start.without_dropout():
        for part in cut(groups, budget):
            stream = build_stream(part).to(policy.device)
            ratios += (policy.log_probs(stream).sum - start.log_probs(stream).sum).tolist()
    return mean(ratios)


def _row(response: Drawn, end_id: int) -> TokenRow:
    ids = [*response.ids, end_id] if response.ended else list(response.ids)
    return TokenRow(np.array(ids, np.int32), np.ones(len(ids), np.bool_))
