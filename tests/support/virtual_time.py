"""Clients of endpoints under test: one request, and a clock on which pauses take no time and depend on no machine."""

from collections.abc import Mapping
from typing import Any

import anyio

from trueup.endpoints.client import Clock, Endpoint, Refused

NOW = 1_700_000_000.0  # seconds since 1970 when it begins


class VirtualTime:
    """Passes only in pauses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: NOW + self.now, self.sleep)


def post(endpoint: Endpoint, path: str = "/x", body: Mapping[str, Any] | None = None) -> Any:
    """The answer to one request; what is refused is raised."""
    ((_, answer),) = endpoint.each(path, [body or {}])
    if isinstance(answer, Refused):
        raise answer
    return answer
