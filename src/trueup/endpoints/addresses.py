"""The addresses of an endpoint: which is asked next, and which is left out as it failed."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from trueup.endpoints.reply import Transient
from trueup.errors import AnnotatorError

logger = logging.getLogger(__name__)

FIRST_REST, LONGEST_REST = 2.0, 300.0
"""Seconds for which one of several addresses that failed is left out; they double with every failure in a row."""


@dataclass(slots=True)
class Address:
    """One of an endpoint's addresses, and how it fares."""

    base_url: str
    under_way: int = 0
    """Requests."""
    failures: int = 0
    """In a row."""
    rests_until: float = -math.inf
    """On the endpoint's clock; infinite where it is left out for good."""


class Addresses:
    """The one with the fewest requests under way is asked.

    One that fails is left out for a while, asked again by one request, and left out for longer should that fail too. A
    single address is never left out.

    Args:
        monotonic: seconds, since any moment.
        returns: whether one that cannot be reached may be asked again later.
    """

    def __init__(self, base_urls: Sequence[str], monotonic: Callable[[], float], *, returns: bool) -> None:
        self._all = [Address(one) for one in base_urls]
        self._monotonic, self._returns = monotonic, returns
        self._told: set[str] = set()

    def choose(self) -> Address:
        """The address to ask next; where all are left out, the one that is so for the shortest time."""
        now = self._monotonic()
        ready = [one for one in self._all if _ready(one, now)]
        if ready:
            return min(ready, key=lambda one: one.under_way)
        return min(self._all, key=lambda one: one.rests_until)

    def leave_out(self, address: Address, error: Transient | AnnotatorError) -> bool:
        """Ask one of several addresses no more, or not for a while; whether another is to be asked at once.

        Where it is the last one, nothing changes.
        """
        now = self._monotonic()
        others = [one for one in self._all if one is not address and one.rests_until < math.inf]
        if not others:
            return False
        lasts = not isinstance(error, Transient) or (error.gone and not self._returns)
        what, wanted = (error.what, error.wait or 0.0) if isinstance(error, Transient) else (str(error), 0.0)
        if lasts:
            address.rests_until = math.inf
        elif address.rests_until <= now:  # what else was under way there failed for the same reason
            address.failures += 1
            rest = min(FIRST_REST * 2 ** (address.failures - 1), LONGEST_REST)
            address.rests_until = now + max(rest, wanted)
        kind = f"{address.base_url} {what.split(':')[0]}"
        if kind not in self._told:
            self._told.add(kind)
            until = "from here on" if lasts else "for a while"
            logger.warning(f"{address.base_url}: {what}; it is left out {until}, and the others are asked")
        return lasts or any(_ready(one, now) for one in others)

    def remains(self, base_url: str) -> bool:
        """Whether an address is not left out for good."""
        return any(one.base_url == base_url and one.rests_until < math.inf for one in self._all)

    def lose(self, base_url: str, error: AnnotatorError) -> bool:
        """Ask an address no more; False where it is the last one."""
        return self.leave_out(next(one for one in self._all if one.base_url == base_url), error)


def _ready(address: Address, now: float) -> bool:
    """Whether an address is to be asked; one that failed, by one request at first."""
    return address.rests_until <= now and not (address.failures and address.under_way)


def on_this_machine(base_url: str) -> bool:
    """Whether an address is a loopback one."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
