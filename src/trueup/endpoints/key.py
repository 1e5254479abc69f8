"""The key of an endpoint, which nothing ever shows."""

from __future__ import annotations

import html
import json
import os
import re
from typing import NoReturn
from urllib.parse import quote

from trueup.errors import InputError

HIDDEN = "***"
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
        for shown in self._spellings():
            text = text.replace(shown, HIDDEN)
        return redact(text)

    def _spellings(self) -> list[str]:
        """The key as it may stand in a text, the longest first."""
        value = self._value
        found = {value, quote(value, safe=""), html.escape(value), json.dumps(value)[1:-1]} - {""}
        return sorted(found, key=len, reverse=True)


def redact(text: str) -> str:
    """The text without whatever looks like a secret: users in URLs, `Authorization` headers, keys of the usual form."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text
