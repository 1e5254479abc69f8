"""What cannot be seen in a text, made visible: a reader of the text as it is printed sees all that a model is told.

Characters without a width hide words inside words, marks of direction show a text in another order than it is read
in, and tags and variation selectors carry whole messages that no screen shows.
"""

import re
import unicodedata

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of control, format and surrogate characters, and of separators of lines and paragraphs."""
KEPT = "\n\t\ufe0e\ufe0f"
"""Line breaks, tabs, and how an emoji is shown."""
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\ufe00-\ufe0d\uffa0\U000e0000-\U000e0fff]"
)
"""Letters and marks that are never shown, whatever their category."""


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
