"""Marks around what somebody wrote, which no writer can close: the mark is made of all that stands between marks.

A response that wants to be obeyed rather than judged has to pose as something outside the marks. It would have to
hold the closing mark, but the mark is a hash of the response itself and of what it is compared with, and one that
occurs in any of them is never used.
"""

import hashlib
from collections.abc import Sequence

DIGITS = 8
"""Hexadecimal digits of a boundary. It need not be long: what counts is that it occurs in no text."""


def boundary_of(texts: Sequence[str]) -> str:
    """Hexadecimal digits that occur in none of the texts; the same for the same texts in any order."""
    lowered = [text.casefold() for text in texts]
    digest = hashlib.sha256()
    for text in sorted(texts):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    while any((found := digest.hexdigest()[:DIGITS]) in text for text in lowered):
        digest.update(b"again")
    return found


def fenced(text: str, boundary: str) -> str:
    """The text between two lines of its own: `<3f9c21ab>` and `</3f9c21ab>`."""
    return f"<{boundary}>\n{text}\n</{boundary}>"
