"""A clock for clients of endpoints on which pauses take no time: no test waits for them, or depends on the machine."""

import anyio

from trueup.endpoints.client import Clock

NOW = 1_700_000_000.0
"""Seconds since 1970 when it begins."""


class VirtualTime:
    """Passes only while somebody sleeps."""

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
