"""What tests of annotators share."""

import logging
from collections.abc import Iterator

import pytest

from trueup.display import collected


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What trueup logs while a test runs."""
    with collected(logging.getLogger("trueup")) as lines:
        yield lines
