"""The key of an endpoint, which nothing ever shows."""

import base64
import html
import os
import re
from functools import cache
from typing import Any, NoReturn
from urllib.parse import quote_plus

from trueup.errors import InputError

HIDDEN = "***"
SECRET = 12  # characters from which on a key is taken for a secret that no model says by chance
APART = ",\"'`|<>(){}"  # what a key cut off ends at, beside white space
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
    InputError: no HTTP header can carry it."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = "the key given") -> None:
        self._value, self.origin = value.strip(), origin
        if not (self._value.isascii() and self._value.isprintable()):
            raise InputError(
                f"{origin} holds line breaks or characters that no HTTP header can carry, so it is no key; set it again"
            )

    @classmethod
    def from_environment(cls, variable: str) -> "Key":
        return cls(os.environ.get(variable, ""), f"environment variable {variable}")

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return f"Key({HIDDEN})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not to be copied or saved")

    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._value}"} if self else {}

    def redact(self, text: str) -> str:
        text = self.hidden_in(text)
        for pattern in _spellings(self._value) if self else ():
            text = re.sub("".join(pattern), HIDDEN, text)
        return redact(text)

    def hidden_in(self, text: str) -> str:
        """The text without the key, in every usual spelling, and without either half of it where it is cut off, nor
        what hangs on to that half without a space. What is no secret by its looks (`EMPTY`) stays."""
        if len(self._value) < SECRET or self._value.isalpha():
            return text
        gone: set[int] = set()
        for pattern in _spellings(self._value):
            half = -(-len(pattern) // 2)
            for found in re.finditer("".join(pattern[:half]), text):
                gone.update(range(found.start(), _end(text, found.end(), 1)))
            for found in re.finditer("".join(pattern[-half:]), text):
                gone.update(range(_end(text, found.start() - 1, -1) + 1, found.end()))
        shown = (one if at not in gone else "" if at - 1 in gone else HIDDEN for at, one in enumerate(text))
        return "".join(shown) if gone else text

    def hidden_in_json(self, value: Any) -> Any:
        """A JSON value without the key in any of its texts."""
        if isinstance(value, str):
            return self.hidden_in(value)
        if isinstance(value, dict):
            return {self.hidden_in(key): self.hidden_in_json(one) for key, one in value.items()}
        return [self.hidden_in_json(one) for one in value] if isinstance(value, list) else value


@cache
def _spellings(key: str) -> list[list[str]]:
    """Patterns of a key's characters, one behind the other: however a URL, JSON or HTML writes each of them; and in
    base64, at each of the three places where it may begin in what is encoded with it."""
    patterns = [[_written(one) for one in key]]
    for before in range(3):
        encoded = base64.b64encode(b"0" * before + key.encode()).decode()
        certain = encoded[-(-before * 8 // 6) : (before + len(key)) * 8 // 6]
        patterns.append(["[+-]" if one == "+" else "[/_]" if one == "/" else one for one in certain])
    return patterns


def _written(one: str) -> str:
    names = "|".join(map(re.escape, {one, html.escape(one), quote_plus(one)}))
    code = f"0*(?i:{ord(one):x})"
    return rf"(?:\\*(?:{names}|u{code})|%(?:25)*{code}|&#(?:0*{ord(one)}|[xX]{code});)"


def _end(text: str, at: int, by: int) -> int:
    """Where what hangs together at a place of a text ends, forwards or backwards."""
    while 0 <= at < len(text) and not (text[at].isspace() or text[at] in APART):
        at += by
    return at


def redact(text: str) -> str:
    """The text without whatever looks like a secret: users in URLs, `Authorization` headers, keys of the usual form."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text
