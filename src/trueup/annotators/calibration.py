"""Are a reward model's scores right about which response people prefer, and as sure as they should be?
The model says that the response with the higher score is preferred, with the probability sigmoid(|d|), d being the
difference of the scores (Bradley and Terry, 1952). Numbers only: no model, no text."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trueup.estimates import Z, wilson

Array = npt.NDArray[np.float64]

BINS = 10
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its standard error; nan where there is one prompt only."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Bin:
    low: float
    high: float  # probabilities in [low, high); the last bin holds 1 too
    pairs: int
    said: float  # mean probability by the model that its preferred response is the better one
    seen: float  # how often it is, by the feedback
    error: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What held-out pairs say of scores. Standard errors are over prompts, whose pairs hang together."""

    pairs: int
    prompts: int
    accuracy: Estimate  # share of pairs whose chosen response has the higher score; equal scores count as wrong
    brier: Estimate
    """Mean of (sigmoid(r(chosen) - r(rejected)) - p)^2, p the pair's probability; 1/4 for scores that are all equal."""
    expected_calibration_error: Estimate
    """Mean over pairs of |said - seen| of their bin. Guo et al., 2017, https://arxiv.org/abs/1706.04599. Never below 0,
    and above it by chance also for a calibrated model."""
    bins: tuple[Bin, ...]

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = finite(self)
        return found


def calibrate(
    apart: Sequence[float], probabilities: Sequence[float], prompts: Sequence[int], *, seed: int = 0
) -> Calibration:
    """Measure P pairs: `apart` is r(chosen) - r(rejected) of each, `probabilities` how sure the feedback is of its
    order, in (0.5, 1], `prompts` a number for each, the same for pairs of one prompt, which are resampled together."""
    apart_P, p_P = np.array(apart, np.float64), np.array(probabilities, np.float64)
    said_P = _sigmoid(np.abs(apart_P))
    seen_P = np.where(apart_P > 0, p_P, np.where(apart_P < 0, 1 - p_P, 0.5))
    bin_P = np.minimum(((said_P - 0.5) * 2 * BINS).astype(np.int64), BINS - 1)
    in_bin_PB = np.equal(bin_P[:, None], np.arange(BINS)).astype(np.float64)
    sums_PC = np.column_stack(
        [
            np.ones_like(p_P), apart_P > 0, (_sigmoid(apart_P) - p_P) ** 2,
            in_bin_PB, in_bin_PB * said_P[:, None], in_bin_PB * seen_P[:, None],
        ]
    )  # fmt: skip
    prompt_P = np.unique(np.array(prompts), return_inverse=True)[1]
    size = int(prompt_P.max()) + 1
    sums_GC = np.zeros((size, sums_PC.shape[1]))
    np.add.at(sums_GC, prompt_P, sums_PC)
    values, errors = _numbers(sums_GC.sum(0)), _errors(sums_GC, seed)
    if size > 1 and values[0] in (0, 1):  # resamples are all alike, which says nothing of how sure that is
        share = wilson(float(values[0]) * size, size)
        errors[0] = (share.high - share.low) / (2 * Z)
    bins = tuple(
        Bin(
            0.5 + at / (2 * BINS), 0.5 + (at + 1) / (2 * BINS), int((bin_P == at).sum()),
            float(said_P[bin_P == at].mean()), float(values[3 + at]), errors[3 + at],
        )
        for at in range(BINS) if (bin_P == at).any()
    )  # fmt: skip
    accuracy, brier, error = (Estimate(float(values[at]), errors[at]) for at in range(3))
    return Calibration(len(p_P), size, accuracy, brier, error, bins)


def _errors(sums_GC: Array, seed: int) -> list[float]:
    """Standard deviations of the numbers over samples of as many prompts, drawn with replacement."""
    size = len(sums_GC)
    if size < 2:
        return [math.nan] * (3 + BINS)
    counts_DG = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), DRAWS)
    resampled = np.stack([_numbers(count_G @ sums_GC) for count_G in counts_DG])
    known = (column[np.isfinite(column)] for column in resampled.T)  # a sample may leave a bin empty
    return [float(column.std(ddof=1)) if len(column) > 1 else math.nan for column in known]


def _numbers(sum_C: Array) -> Array:
    """Accuracy, Brier score, expected calibration error, and how often the model was right in each bin."""
    pairs, right, squares = sum_C[:3]
    pairs_B, said_B, seen_B = sum_C[3:].reshape(3, BINS)
    share_B = np.divide(seen_B, pairs_B, out=np.full(BINS, np.nan), where=pairs_B > 0)
    return np.array([right / pairs, squares / pairs, np.abs(said_B - seen_B).sum() / pairs, *share_B])


def _sigmoid(value: Array) -> Array:
    small = np.exp(-np.abs(value))
    found: Array = np.where(value >= 0, 1.0, small) / (1 + small)
    return found


def finite(value: Any) -> Any:
    """JSON-ready: dataclasses as mappings, None in place of a number that is none."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
