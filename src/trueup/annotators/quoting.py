"""What others wrote, quoted for a model to read: between marks that no writer can close, with nothing hidden in it.

A response that wants to be obeyed rather than judged has to pose as something outside the marks. It would have to
hold the closing mark, but the mark is a hash of the response itself and of what it is compared with, and one that
occurs in any of them is never used.

What cannot be seen in a text is made visible: characters without a width hide words inside words, marks of direction
show a text in another order than it is read in, and tags and variation selectors carry whole messages that no screen
shows.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

DIGITS = 8
"""Hexadecimal digits of a boundary. It need not be long: what counts is that it occurs in no text."""
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of control, format and surrogate characters, and of separators of lines and paragraphs."""
KEPT = "\n\t\ufe0e\ufe0f"
"""Line breaks, tabs, and how an emoji is shown."""
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\ufe00-\ufe0d\uffa0\U000e0000-\U000e0fff]"
)
"""Letters and marks that are never shown, whatever their category."""


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


def visible(text: str) -> str:
    r"""The text with what hides in it spelled out: `a<U+200B>b` for `a`, a space of no width, and `b`.

    `\r\n` and `\r` become the line break that they are.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(f"<U+{ord(one):04X}>" if _hides(one) else one for one in text)


def _hides(character: str) -> bool:
    if character in KEPT:
        return False
    return unicodedata.category(character) in HIDDEN or BLANK.match(character) is not None
