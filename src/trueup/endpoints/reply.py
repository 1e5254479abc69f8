"""What an answer over HTTP means: an object in JSON, or one of three errors."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from trueup.errors import AnnotatorError

PASSING = frozenset({408, 409, 425, 429})
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


class Refused(Exception):
    """A request that cannot be answered, though others can: too long for the model, say.

    Its text is the reason without secrets: `400: This model's maximum context length is 512 tokens`.

    Args:
        param: the parameter of the request that the server names as the reason; empty where it names none.
    """

    def __init__(self, reason: str, param: str = "") -> None:
        super().__init__(reason)
        self.param = param

    @property
    def reason(self) -> str:
        return str(self)


class Transient(Exception):
    """A request was not answered, for a reason that may pass.

    Args:
        what: what came back, in words: `503: overloaded`.
        hint: what to do about it, should it last.
        wait: seconds that the server asks to wait.
        unreadable: whether an answer came that is none.
        gone: whether the server may have ended, and have started again when it is reached later.
    """

    def __init__(
        self,
        what: str,
        hint: str,
        *,
        wait: float | None = None,
        unreadable: bool = False,
        gone: bool = False,
    ) -> None:
        super().__init__(f"{what}; {hint}")
        self.what, self.hint, self.wait = what, hint, wait
        self.unreadable, self.gone = unreadable, gone


@dataclass(frozen=True, slots=True)
class Sent:
    """What there is to know of a request when its answer is read."""

    redact: Callable[[str], str]
    """Takes secrets out of what is said."""
    without_key: Callable[[Any], Any]
    """Takes the key out of a JSON value."""
    admission: str
    """What to do where the endpoint does not let us in."""
    now: float
    """Seconds since 1970."""


def read_json(response: httpx2.Response, sent: Sent) -> dict[str, Any]:
    """The object that answers a request.

    Raises:
        Transient: the request may be answered later.
        Refused: this request cannot be answered.
        AnnotatorError: no request can.
    """
    body, status = _parsed(response.content), response.status_code
    if status == 200 and isinstance(body, dict):
        fault = body.get("error")
        if not fault or "choices" in body:
            clean: dict[str, Any] = sent.without_key(body)
            return clean
        code = fault.get("code") if isinstance(fault, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502  # an error sent as an answer
    said = sent.redact(_said(response.content, body))
    what = f"{status}: {excerpt(said)}".removesuffix(": ")
    lower = said[:READ].lower()
    if status in (401, 403) or (status == 400 and any(words in lower for words in BAD_KEY)):
        raise AnnotatorError(f"{what}; {sent.admission}")
    if status == 402 or (400 <= status < 500 and any(words in lower for words in UNPAID)):
        raise AnnotatorError(f"{what}; the account's quota is used up; look at its plan, or give another key")
    if status in PASSING or (500 <= status < 600 and status not in LASTING):
        hint = "lower the concurrency, or ask for a higher limit" if status == 429 else "look at the server"
        raise Transient(what, hint, wait=_retry_after(response.headers, sent.now))
    if status in REFUSED:
        fault = body.get("error") if isinstance(body, dict) else None
        param = fault.get("param") if isinstance(fault, dict) else None
        reason = f"{status}: {excerpt(said, SHOWN_OF_REFUSAL)}".removesuffix(": ")
        raise Refused(reason, param if isinstance(param, str) else "")
    if 300 <= status < 400:
        to = sent.redact(response.headers.get("Location", "nowhere").split("?")[0])
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


def read_status(response: httpx2.Response, sent: Sent) -> dict[str, Any]:
    """As `read_json`, where the status says all, and where a server that broke over the request breaks again."""
    if 200 <= response.status_code < 300:
        return {}
    try:
        return read_json(response, sent)
    except Transient as error:
        if response.status_code == 500:
            raise AnnotatorError(f"{error.what}; look at the server's log") from None
        raise


def read_probe(response: httpx2.Response, sent: Sent) -> dict[str, Any]:
    """As `read_json`, where whatever else than JSON comes only says that nothing is there: `Refused` by its status."""
    if response.status_code in (429, 503):
        return read_json(response, sent)
    body = _parsed(response.content)
    if response.status_code == 200 and isinstance(body, dict):
        return body
    raise Refused(str(response.status_code))


def excerpt(text: str, most: int = SHOWN) -> str:
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


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
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
