"""When and how a reference follows the policy. Gorbatovski et al., 2024, https://arxiv.org/abs/2404.09656."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trueup.references.choices import TrustRegion


def due(choice: TrustRegion | None, step: int) -> bool:
    """Whether the reference moves after optimizer step `step`, counted from 1; None never moves."""
    return choice is not None and step % choice.every == 0


@torch.no_grad()
def interpolate_(reference: Sequence[Tensor], policy: Sequence[Tensor], alpha: float) -> None:
    """theta_ref <- alpha theta + (1 - alpha) theta_ref, in place and in float32; alpha = 1 copies."""
    if alpha == 1:
        for old, new in zip(reference, policy, strict=True):
            old.copy_(new)
        return
    torch._foreach_lerp_(list(reference), [tensor.detach() for tensor in policy], alpha)
