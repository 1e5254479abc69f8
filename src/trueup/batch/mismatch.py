"""A prompt with responses to another prompt."""

from typing import Any

import numpy as np

from trueup.batch.tokens import TokenGroup, TokenRow


def mismatched(group: TokenGroup[Any], other: TokenGroup[Any], *, max_length: int) -> TokenGroup[None] | None:
    """The prompt of `group` with the responses of `other`, cut to `max_length` tokens together.

    Returns:
        None where both have the same prompt, or nothing of the responses fits behind it.
    """
    if np.array_equal(group.prompt, other.prompt):
        return None
    room = max_length - len(group.prompt)
    cut = (TokenRow(row.ids[:room], row.scored[:room]) for row in other.responses)
    rows = tuple(row for row in cut if row.scored.any())
    return TokenGroup(group.prompt, rows, None, group.origin) if room > 0 and rows else None
