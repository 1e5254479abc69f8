"""The addresses of an endpoint: which is asked next, and which is left out as it failed."""

import logging
import math
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies

from trueup.endpoints.reply import Transient
from trueup.errors import AnnotatorError
from trueup.words import reason

logger = logging.getLogger(__name__)

CONNECTING = 5.0
"""Seconds within which a server that is there takes a connection."""
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


def refuse_dead(setting: str, base_urls: Sequence[str]) -> None:
    """See that one of a setting's addresses takes a connection, over which nothing is sent.

    What lies behind a proxy is not looked for.

    Raises:
        AnnotatorError: none does.
    """
    for url in base_urls:
        parts = urlsplit(url)
        if getproxies() and not on_this_machine(url):
            return
        place = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection(place, timeout=CONNECTING).close()
        except (OSError, UnicodeError) as error:
            why = reason(error)
        else:
            return
    raise AnnotatorError(
        f"{setting} {', '.join(base_urls)}: no server answers there: {why}. Start it, or give its address"
    )


def place_of(base_url: str) -> str:
    """Host, port and path of an address, without what could be secret.

    Raises:
        ValueError: it is no address.
    """
    parts = urlsplit(base_url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or ''}{port}{parts.path.rstrip('/')}"


def on_this_machine(base_url: str) -> bool:
    """Whether an address is a loopback one."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
