"""A judge's answer in words, read strictly: one label and nothing else is a verdict; all else is none.

A reader that looks for the first digit finds a verdict in answers that hold none, such as an answer that was cut off,
takes back what it says first, or repeats what a response told it to say.
"""

import json
import re

from trueup.annotators.judge import Unreadable, Verdict

EMPTY = Unreadable("the answer is empty")
NEITHER = Unreadable("the answer is neither label")
BOTH = Unreadable("the answer names both labels")
MORE = Unreadable("the answer says more than a label")

SPACE = " \t\r\n"
LONGEST = 200
"""Characters beyond which an answer is not looked into: no way to write a label takes as many."""
KEYS = ("preferred", "preference", "answer", "verdict", "label", "choice")
"""Under one of these, alone, an object names a label."""
FENCE = re.compile(r"```(?:json|text)?[ \t]*\r?\n?(.*?)\r?\n?[ \t]*```", re.DOTALL)
WRAPPED = ("{}", "{}.", "({})", '"{}"', "'{}'", "`{}`")


def read_answer(text: str | None, labels: tuple[str, str]) -> Verdict | Unreadable:
    """Which label an answer is.

    A label may stand in quotation marks, in parentheses or before a full stop, in a code block, or alone in an object:
    `1`, `1.`, `(1)`, `"1"`, `{"preferred": 1}`.

    Args:
        text: the whole answer; None where there is none.
        labels: the two answers; the first stands for the response shown first.
    """
    trimmed = (text or "").strip(SPACE)
    if not trimmed:
        return EMPTY
    if len(trimmed) <= LONGEST:
        block = FENCE.fullmatch(trimmed)
        inner = block.group(1).strip(SPACE) if block else trimmed
        for place, label in enumerate(labels):
            if inner in [form.format(label) for form in WRAPPED] or _object(inner) == label:
                return Verdict(1.0 - place)
    named = [label for label in labels if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", trimmed)]
    return BOTH if len(named) > 1 else MORE if named else NEITHER


def _object(text: str) -> str | None:
    """The label under the one key of a JSON object, whether it is given as text or as a number."""
    if not text.startswith("{"):
        return None
    try:
        items = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None
    if len(items) != 1 or items[0][0] not in KEYS:
        return None
    value = items[0][1]
    return str(value) if isinstance(value, str | int) else None
