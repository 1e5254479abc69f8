"""What a user is refused with: one line that says why."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from trueup.errors import InputError


@contextmanager
def refused(message: str) -> Iterator[None]:
    """The block raises InputError with a message of one line that the pattern is found in."""
    with pytest.raises(InputError, match=message) as refusal:
        yield
    assert "\n" not in str(refusal.value)
