"""The key of an endpoint, which nothing ever shows."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

from trueup.errors import InputError

HIDDEN = "***"
SECRET = 12
"""Characters from which on a key is taken for a secret that no model says by chance."""
SECRETS = (
    (re.compile(r"(?<=://)[^/\s@\"']*@"), f"{HIDDEN}@"),
    (re.compile(r"(?i)\b(authorization|x-api-key|api-key|apikey)(\W{0,4}[:=]\W{0,4})(?:(?:bearer|basic)\s+)?[^\s,;\"']+"),
     rf"\1\2{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=*-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\bsk-[A-Za-z0-9_*-]{6,}"), HIDDEN),
)  # fmt: skip
"""What looks like a secret: a user in a URL, a header that lets one in, a key of the usual form."""


class Key:
    """Lets a client in at an endpoint. Only `header` gives it away; it can neither be printed nor copied into a file.

    Args:
        value: empty where there is none, which is said where an endpoint wants one.
        origin: where it is from, for messages: `environment variable OPENAI_API_KEY`.

    Raises:
        InputError: no HTTP header can carry it.
    """

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = "the key given") -> None:
        self._value, self.origin = value.strip(), origin
        if not (self._value.isascii() and self._value.isprintable()):
            raise InputError(
                f"{origin} holds line breaks or characters that no HTTP header can carry, so it is no key; set it again"
            )

    @classmethod
    def from_environment(cls, variable: str) -> Key:
        """The key in an environment variable; an empty one where it is not set.

        Raises:
            InputError: no HTTP header can carry it.
        """
        return cls(os.environ.get(variable, ""), f"environment variable {variable}")

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return f"Key({HIDDEN})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not to be copied or saved")

    def header(self) -> dict[str, str]:
        """The HTTP header that holds it."""
        return {"Authorization": f"Bearer {self._value}"} if self else {}

    def redact(self, text: str) -> str:
        """The text without the key and without whatever else looks like a secret."""
        text = self.hidden_in(text)
        for shown in self._spellings():
            text = text.replace(shown, HIDDEN)
        return redact(text)

    def hidden_in(self, text: str) -> str:
        """The text without the key, in every usual spelling, and without either half of it where it is cut off.

        What is no secret by its looks (`EMPTY`, `none`) stays: a model may say it.
        """
        if len(self._value) < SECRET or self._value.isalpha():
            return text
        for shown in self._spellings():
            text = text.replace(shown, HIDDEN)
        for shown in self._spellings():
            half = -(-len(shown) // 2)
            for part, forwards in ((shown[:half], True), (shown[-half:], False)):
                at = text.find(part)
                while at >= 0:
                    start, stop = at, at + half
                    while (
                        forwards and stop < len(text) and text[start : stop + 1] == shown[: stop + 1 - start]
                    ):
                        stop += 1
                    while not forwards and start > 0 and text[start - 1 : stop] == shown[start - 1 - stop :]:
                        start -= 1
                    text = text[:start] + HIDDEN + text[stop:]
                    at = text.find(part, start + len(HIDDEN))
        return text

    def hidden_in_json(self, value: Any) -> Any:
        """A JSON value without the key in any of its texts."""
        if isinstance(value, str):
            return self.hidden_in(value)
        if isinstance(value, dict):
            return {self.hidden_in(key): self.hidden_in_json(one) for key, one in value.items()}
        return [self.hidden_in_json(one) for one in value] if isinstance(value, list) else value

    def _spellings(self) -> list[str]:
        """The key as it may stand in a text, the longest first."""
        value = self._value
        escaped = json.dumps(value)[1:-1]
        encoded = [base64.b64encode(value.encode()), base64.urlsafe_b64encode(value.encode())]
        percent = re.compile("%[0-9A-F]{2}")
        found = {
            *(value, html.escape(value), escaped, escaped.replace("/", "\\/")),
            *(one.decode().rstrip("=") for one in encoded),
            *(written for way in (quote(value, safe=""), quote(value), quote_plus(value))
              for written in (way, percent.sub(lambda one: one[0].lower(), way))),
        }  # fmt: skip
        return sorted(found - {""}, key=len, reverse=True)


def redact(text: str) -> str:
    """The text without whatever looks like a secret: users in URLs, `Authorization` headers, keys of the usual form."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text
