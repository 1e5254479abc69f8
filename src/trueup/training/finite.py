"""What is not finite names the rows it comes from, and ends the step before anything has moved."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from trueup.batch.batch import Batch
from trueup.errors import NumericsError
from trueup.words import listed


def check_finite(values: Tensor, rows: Tensor | None, batch: Batch[Any], step: int, what: str) -> None:
    """Refuse values that are not finite.

    Args:
        values: one for each row of the batch, or for each of `rows`.
        rows: whose values they are, where it is not simply each row's.
        step: number of the step, for the message.
        what: names the values in the message.

    Raises:
        NumericsError: the rows are named by file and number.
    """
    bad = ~values.isfinite()
    if not bad.any():
        return
    places = bad.nonzero()[:, 0] if rows is None else rows[bad]
    origins = batch.origins
    named = sorted({str(origins[place] or "a row without origin") for place in places.tolist()})
    raise NumericsError(
        f"step {step}: the {what} of {listed(named)} is not finite ({values[bad][0].item()}); the step was not "
        "taken and the last checkpoint is intact. Look at these rows with a lower --learning-rate in mind"
    )
