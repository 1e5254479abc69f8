"""The learning rate over a run: a linear warm-up, then a fall."""

import math
from collections.abc import Callable

FALLS: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}
"""Fraction of the peak left when a fraction `progress` in [0, 1) of the steps after warm-up is done."""


def learning_rate(step: int, *, peak: float, schedule: str, warmup: int, total: int) -> float:
    """Learning rate of step `step`, counted from 1.

    Step w of a warm-up of W steps has peak w / W; the first step after it has the peak. The linear and cosine
    schedules would reach 0 one step after the last.
    """
    if step <= warmup:
        return peak * step / warmup
    return peak * FALLS[schedule]((step - warmup - 1) / max(total - warmup, 1))
