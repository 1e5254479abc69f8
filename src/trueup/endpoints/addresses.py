"""The addresses of an endpoint, which is asked next and which is left out as it failed; and what answers mean."""

import json
import math
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2

from trueup.endpoints.key import Key
from trueup.errors import AnnotatorError
from trueup.words import logger, reason

CONNECTING = 5.0  # seconds within which a server that is there takes a connection
FIRST_REST, LONGEST_REST = 2.0, 300.0
"""Seconds for which one of several addresses that failed is left out; they double with every failure in a row."""


@dataclass(slots=True)
class Address:
    base_url: str
    under_way: int = 0
    failures: int = 0
    rests_until: float = -math.inf  # on the endpoint's clock; infinite where it is left out for good


class Addresses:
    """One that fails is left out for a while, asked again by one request, and left out for longer should that fail too.
    A single address is never left out. `returns`: one that cannot be reached may be asked again later."""

    def __init__(self, base_urls: Sequence[str], monotonic: Callable[[], float], *, returns: bool) -> None:
        self._all = [Address(one) for one in base_urls]
        self._monotonic, self._returns = monotonic, returns
        self._told: set[str] = set()

    def choose(self) -> Address:
        """The least busy address; where all are left out, the one that is so for the shortest time."""
        if ready := [one for one in self._all if _ready(one, self._monotonic())]:
            return min(ready, key=lambda one: one.under_way)
        return min(self._all, key=lambda one: one.rests_until)

    def leave_out(self, address: Address, error: "Transient | AnnotatorError") -> bool:
        """Ask one of several addresses no more, or not for a while; whether another is to be asked at once."""
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
        return any(one.base_url == base_url and one.rests_until < math.inf for one in self._all)

    def lose(self, base_url: str, error: AnnotatorError) -> bool:
        return self.leave_out(next(one for one in self._all if one.base_url == base_url), error)


def _ready(address: Address, now: float) -> bool:
    """Whether an address is to be asked; one that failed, by one request at first."""
    return address.rests_until <= now and not (address.failures and address.under_way)


def refuse_dead(setting: str, base_urls: Sequence[str]) -> None:
    """Refuse addresses of which none takes a connection, over which nothing is sent; a proxy is not looked behind."""
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
    raise AnnotatorError(f"{setting} {', '.join(base_urls)}: no server answers: {why}. Start it, or give its address")


def place_of(base_url: str) -> str:
    """Host, port and path of an address, without what could be secret."""
    parts = urlsplit(base_url)
    return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"


def on_this_machine(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


PASSING = frozenset({408, 409, 425, 429})
"""Errors of the request that pass by themselves. So do those of the server, but for `LASTING`."""
LASTING = frozenset({501, 505})
REFUSED = frozenset({400, 413, 414, 422, 451})  # errors of this request alone
UNPAID = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "exceeded your current quota")
BAD_KEY = ("invalid_api_key", "api key not valid", "incorrect api key")
SHOWN = 100
SHOWN_OF_REFUSAL = 300
READ = 100_000


class Refused(Exception):
    """A request that cannot be answered, though others can: too long for the model, say; why, without secrets.
    `param`: the parameter of the request that the server names as the reason; empty where it names none."""

    def __init__(self, reason: str, param: str = "") -> None:
        super().__init__(reason)
        self.param = param

    @property
    def reason(self) -> str:
        return str(self)


class Transient(Exception):
    """A request was not answered, for a reason that may pass.
    `wait`: seconds the server asks for; `unreadable`: an answer came that is none; `gone`: the server may be, too."""

    def __init__(
        self, what: str, hint: str, *, wait: float | None = None, unreadable: bool = False, gone: bool = False
    ) -> None:
        super().__init__(f"{what}; {hint}")
        self.what, self.hint, self.wait = what, hint, wait
        self.unreadable, self.gone = unreadable, gone


def read_json(response: httpx2.Response, key: Key, now: float) -> dict[str, Any]:
    """The object that answers a request sent with a key; else raises Transient, Refused of this request, or
    AnnotatorError of all."""
    body, status = _parsed(response.content), response.status_code
    if status == 200 and isinstance(body, dict):
        fault = body.get("error")
        if not fault or "choices" in body:
            clean: dict[str, Any] = key.hidden_in_json(body)
            return clean
        code = fault.get("code") if isinstance(fault, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502  # an error sent as an answer
    said = key.redact(_said(response.content, body))
    what = f"{status}: {excerpt(said)}".removesuffix(": ")
    lower = said[:READ].lower()
    if status in (401, 403) or (status == 400 and any(words in lower for words in BAD_KEY)):
        admission = f"check the key in {key.origin}" if key else f"no key was sent; put one into {key.origin}"
        raise AnnotatorError(f"{what}; {admission}")
    if status == 402 or (400 <= status < 500 and any(words in lower for words in UNPAID)):
        raise AnnotatorError(f"{what}; the account's quota is used up; look at its plan, or give another key")
    if status in PASSING or (500 <= status < 600 and status not in LASTING):
        hint = "lower the concurrency, or ask for a higher limit" if status == 429 else "look at the server"
        raise Transient(what, hint, wait=_retry_after(response.headers, now))
    if status in REFUSED:
        fault = body.get("error") if isinstance(body, dict) else None
        param = fault.get("param") if isinstance(fault, dict) else None
        reason = f"{status}: {excerpt(said, SHOWN_OF_REFUSAL)}".removesuffix(": ")
        raise Refused(reason, param if isinstance(param, str) else "")
    if 300 <= status < 400:
        to = key.redact(response.headers.get("Location", "nowhere").split("?")[0])
        raise AnnotatorError(
            f"{status}, a redirect to {excerpt(to)}; give the address itself as base_url: redirects are not followed, "
            "so that no key is sent to another server"
        )
    if status == 404:
        raise AnnotatorError(f"{what}; check base_url, which usually ends in /v1, and the name of the model")
    if 200 <= status < 300:
        raise Transient(
            f"{what.replace(':', ', not JSON:', 1)}" if said else f"{status} with an empty body",
            "check base_url, which usually ends in /v1, and what stands between here and the server",
            unreadable=True,
        )
    raise AnnotatorError(f"{what}; check base_url and the server")


def read_status(response: httpx2.Response, key: Key, now: float) -> dict[str, Any]:
    """As `read_json`, where the status says all, and where a server that broke over the request breaks again."""
    if 200 <= response.status_code < 300:
        return {}
    try:
        return read_json(response, key, now)
    except Transient as error:
        if response.status_code == 500:
            raise AnnotatorError(f"{error.what}; look at the server's log") from None
        raise


def read_probe(response: httpx2.Response, key: Key, now: float) -> dict[str, Any]:
    """As `read_json`, where whatever else than JSON comes only says that nothing is there: `Refused` by its status."""
    if response.status_code in (429, 503):
        return read_json(response, key, now)
    body = _parsed(response.content)
    if response.status_code == 200 and isinstance(body, dict):
        return body
    raise Refused(str(response.status_code))


def excerpt(text: str, most: int = SHOWN) -> str:
    plain = " ".join("".join(one if one.isprintable() else " " for one in text[:READ]).split())
    return plain if len(plain) <= most else f"{plain[:most]}..."


def _said(content: bytes, body: Any) -> str:
    """A body as text; of an error as JSON, its message and what else names it."""
    if isinstance(body, dict):
        fault = body.get("error") or body.get("detail") or body
        if isinstance(fault, dict):
            words = [fault[key] for key in ("message", "type", "code") if isinstance(fault.get(key), str)]
            return " / ".join(words) if "message" in fault and words else json.dumps(fault)
        return fault if isinstance(fault, str) else json.dumps(fault)
    return content[:READ].decode("utf-8", "replace")


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that `Retry-After` asks for, given as seconds or as a date; None where it asks for none."""
    given = headers.get("Retry-After", "").strip()
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
