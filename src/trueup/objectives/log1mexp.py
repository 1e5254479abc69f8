"""log(1 - p) from log p, without loss of digits at either end.

Maechler, 2012, https://cran.r-project.org/web/packages/Rmpfr/vignettes/log1mexp-note.pdf.
"""

import math

import torch
from torch import Tensor

NEAREST = 2.0**-20
"""Log-probabilities above -NEAREST (probabilities above about 1 - 1e-6) are on the tangent."""


def log1mexp(log_prob: Tensor) -> Tensor:
    """log(1 - exp(log_prob)), of any shape, for log-probabilities at most 0 up to rounding.

    The function falls without bound as the probability goes to 1. Above -`NEAREST` it goes on along its
    tangent, so that value and slope stay finite: -13.86 and -2^20 there, -14.86 at a probability of 1. The
    slope with respect to a logit, the tangent's times 1 - p, is at most 1 in size, as it is everywhere.
    """
    near_one = log_prob.clamp(-math.log(2), -NEAREST)
    far_from_one = log_prob.clamp(max=-math.log(2))
    beyond = log_prob - log_prob.clamp(max=-NEAREST)  # at the border both pass a gradient on: they cancel
    value = torch.where(
        log_prob > -math.log(2), torch.log(-torch.expm1(near_one)), torch.log1p(-torch.exp(far_from_one))
    )
    return value - beyond / math.expm1(NEAREST)
