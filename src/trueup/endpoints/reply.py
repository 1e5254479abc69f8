"""What an answer over HTTP means: a reply, a reason to try again, a refused request, or the end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

AGAIN = frozenset({408, 409, 425, 429})
"""Errors of the request that pass by themselves. So do those of the server, but for `LASTING`."""
LASTING = frozenset({501, 505})
REFUSED = frozenset({400, 413, 414, 422, 451})
"""Errors of this request alone."""
UNPAID = (
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "exceeded your current quota",
)
BAD_KEY = ("invalid_api_key", "api key not valid", "incorrect api key")
SHOWN = 100
"""Characters of a body that a message shows."""
SHOWN_OF_REFUSAL = 300
READ = 100_000
"""Bytes of an error that are looked at."""


@dataclass(frozen=True, slots=True)
class Replied:
    """The request was answered."""

    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The request was not answered, for a reason that may pass."""

    what: str
    """What came back, in words: `503: overloaded`."""
    hint: str
    """What to do about it, should it last."""
    wait: float | None = None
    """Seconds that the server asks to wait."""
    unreadable: bool = False
    """Whether an answer came that is none."""


@dataclass(frozen=True, slots=True)
class Declined:
    """This request cannot be answered; others can."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fatal:
    """No request can be answered."""

    what: str
    hint: str


Outcome = Replied | Failed | Declined | Fatal


def read_reply(
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    now: float,
    admission: str,
    redact: Callable[[str], str],
) -> Outcome:
    """Understand an answer.

    Args:
        headers: as a mapping that does not tell upper from lower case.
        now: seconds since 1970.
        admission: what to do where the endpoint does not let us in.
        redact: takes secrets out of what is said.
    """
    body = _parsed(content)
    if status == 200 and isinstance(body, dict):
        fault = body.get("error")
        if not fault or "choices" in body:
            return Replied(body)
        code = fault.get("code") if isinstance(fault, dict) else None
        status = (
            code if isinstance(code, int) and 400 <= code < 600 else 502
        )  # an error in the clothes of an answer
    said = redact(_said(content, body))
    what = f"{status}: {one_line(said)}".removesuffix(": ")
    lower = said[:READ].lower()
    if status in (401, 403) or (status == 400 and any(words in lower for words in BAD_KEY)):
        return Fatal(what, admission)
    if status == 402 or (400 <= status < 500 and any(words in lower for words in UNPAID)):
        return Fatal(what, "the account's quota is used up; look at its plan, or give another key")
    if status in AGAIN or (500 <= status < 600 and status not in LASTING):
        hint = "lower the concurrency, or ask for a higher limit" if status == 429 else "look at the server"
        return Failed(what, hint, _asked_wait(headers, now))
    if status in REFUSED:
        return Declined(f"{status}: {one_line(said, SHOWN_OF_REFUSAL)}".removesuffix(": "))
    if 300 <= status < 400:
        to = redact(headers.get("Location", "nowhere").split("?")[0])
        return Fatal(
            f"{status}, a redirect to {one_line(to)}",
            "give the address itself as base_url: redirects are not followed, so that no key goes astray",
        )
    if status == 404:
        return Fatal(what, "check base_url, which usually ends in /v1, and the name of the model")
    if 200 <= status < 300:
        return Failed(
            f"{what.replace(':', ', not JSON:', 1)}" if said else f"{status} with an empty body",
            "check base_url, which usually ends in /v1, and what stands between here and the server",
            unreadable=True,
        )
    return Fatal(what, "check base_url and the server")


Read = Callable[..., Outcome]
"""`read_reply`, or another that takes the same."""


def read_order(status: int, headers: Mapping[str, str], content: bytes, **rest: Any) -> Outcome:
    """As `read_reply`, where the status says all, and where a server that broke over the order breaks again."""
    if 200 <= status < 300:
        return Replied({})
    outcome = read_reply(status, headers, content, **rest)
    if status == 500 and isinstance(outcome, Failed):
        return Fatal(outcome.what, "look at the server's log")
    return outcome


def read_probe(status: int, headers: Mapping[str, str], content: bytes, **rest: Any) -> Outcome:
    """As `read_reply`, where something else than JSON, or an error that lasts, only says that nothing is there."""
    if status in (429, 503):
        return read_reply(status, headers, content, **rest)
    body = _parsed(content)
    return Replied(body) if status == 200 and isinstance(body, dict) else Declined(str(status))


def one_line(text: str, most: int = SHOWN) -> str:
    """The first characters of a text, on one line and all of them printable."""
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
    """The JSON in a body; None where there is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that `Retry-After` asks for, given as seconds or as a date; None where it asks for none."""
    given = headers.get("Retry-After", "").strip()
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
