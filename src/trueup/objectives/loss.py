"""What an objective returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Loss:
    """Unreduced: only the training step sums, over the whole batch, and divides.

    step loss = sum(per_example) / sum(weight), both over every micro-batch and every rank, so that the result
    does not depend on how a batch was cut.
    """

    per_example: Tensor
    """[E] loss of each example (pair, ranking, response), differentiable."""
    weight: Tensor
    """[E] how much each counts in the denominator: 1 for most objectives, its tokens for a per-token mean."""
    row: Tensor
    """[E] int64, a row of each example, so that a bad loss can name where it came from."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """Name -> [any number of] detached values, averaged over the whole batch; an empty one is left out."""
