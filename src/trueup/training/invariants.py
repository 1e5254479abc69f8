"""What must hold before step 1, checked on the run's own first batch.

A policy that starts from its reference has log-ratios of exactly 0. When it has not, the reference is another
model than the user thinks, or the two are computed differently, and every margin would carry that error.
"""

from __future__ import annotations

from typing import Any

import torch

from trueup.batch.batch import Batch
from trueup.batch.logprobs import LogProbs
from trueup.errors import NumericsError
from trueup.models.causal import StreamModel
from trueup.references.reference import Reference

ROUNDING = 1e-4
"""Nats per token allowed where reference and policy are computed in different batches."""


@torch.no_grad()
def check_first_batch(policy: StreamModel, reference: Reference, batch: Batch[Any]) -> str | None:
    """Compare policy and reference before anything has moved.

    Returns:
        What was found, for the user; None where there is no reference.

    Raises:
        NumericsError: they differ.
    """
    batch = batch.to(policy.device)
    expected = reference.log_probs(batch)
    if expected is None:
        return None
    with policy.without_dropout():
        found = policy.outputs(batch.stream)
    assert isinstance(found, LogProbs)
    gap_S = (found.token_S - expected.token_S).abs()
    gap = gap_S.max().item()
    allowed = 0.0 if reference.exact and policy.device.type == "cpu" else ROUNDING
    if getattr(policy, "autocast", None) is not None and not reference.exact:
        allowed = 0.1
    if not gap <= allowed:  # NaN agrees with nothing
        raise NumericsError(
            f"before the first step the policy differs from its reference {reference.identity} by up to {gap:.3g} nats "
            "a token, though it should start from it; every margin would carry that error. The run was not "
            "started. Check which model and adapter were given, and remove a stale cache if the reference is cached"
        )
    return f"reference {reference.identity}: first batch agrees with the policy" + (
        " exactly" if gap == 0 else f" to {gap:.1g} nats a token"
    )
