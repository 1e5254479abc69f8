"""Values on one scale."""

from torch import Tensor

EPSILON = 1e-8
"""Added to the variance: values that are all the same have none."""


def whiten(values: Tensor, *, shift: bool = True) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-8) over all values; where `shift` is off the mean is put back."""
    mean = values.mean()
    scaled = (values - mean) * (values.var(correction=0) + EPSILON).rsqrt()
    return scaled if shift else scaled + mean
