"""Messages that somebody wrote as text: the JSON of a list, or what Python or pandas prints of one."""

import ast
import json
import warnings

LONGEST = 200_000
"""Characters up to which text is tried as Python."""
WRITTEN = "messages written as text; write them as a list"


def python_value(written: str) -> object:
    """The list or object that Python would print so, as JSON has it; None where the text is none."""
    if len(written) > LONGEST or written[:1] not in ("[", "{"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = json.loads(json.dumps(ast.literal_eval(written)))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, list | dict) else None


def holds_messages(written: str) -> bool:
    """Whether text is messages, or one, in JSON, in Python, or as pandas prints an array of them (without commas).

    A message has `role` and `content`, or `from` and `value`.
    """
    text = written.strip()
    if text[:1] not in ("[", "{") or not ("role" in text or "from" in text):
        return False
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = python_value(text) or python_value(text.replace("}\n {", "}, {"))
    turns = [found] if isinstance(found, dict) else found
    return isinstance(turns, list) and len(turns) > 0 and all(is_turn(one) for one in turns)


def is_turn(value: object) -> bool:
    """Whether a value has the keys of a message."""
    if not isinstance(value, dict):
        return False
    return ("role" in value and ("content" in value or "tool_calls" in value)) or {
        "from",
        "value",
    } <= value.keys()
