"""Placeholders in a conversation: one for what each message says, and one for every special token spelled elsewhere.

What a message says is its content. A message that only calls a tool has none, and many templates then write none;
its placeholder stands for the name of the first tool it calls.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.feedback.records import Message, Tools

MARK = "\ue000{}\ue001"
"""In place of what the message of that number says."""
SPELLED = "\ue002{}\ue003"
"""In place of the special token of that number, where a tool or a key beside the content spells it."""
CALLED = "\ue004{}\ue005"
"""In place of the name of the first tool called by the message of that number, where the message has a content too."""
SPELLED_PATTERN = re.compile("\ue002([0-9]+)\ue003")


@dataclass(frozen=True, slots=True)
class Marked:
    """A conversation with its placeholders, ready for a template."""

    messages: list[dict[str, Any]]
    tools: Tools
    marks: tuple[str, ...]
    """The placeholder of each message."""
    names: tuple[str | None, ...]
    """What the placeholder stands for where that is the name of a tool, special tokens in it as placeholders; None
    for a content."""
    contents: tuple[str, ...]
    """What each placeholder stands for."""
    called: dict[str, str]
    """Placeholders of tools that are called beside a content, and their names, as in `names`."""


def marked(messages: Sequence[Message], tools: Tools, special: Sequence[str]) -> Marked:
    """Put placeholders into a conversation. `special` holds the texts of special tokens."""

    def hide(text: str) -> str:
        for number, one in by_length(special):
            text = text.replace(one, SPELLED.format(number))
        return text

    rows: list[dict[str, Any]] = []
    names: list[str | None] = []
    contents: list[str] = []
    called: dict[str, str] = {}
    marks = tuple(MARK.format(number) for number in range(len(messages)))
    for number, message in enumerate(messages):
        extra = everywhere(message.extra, hide)
        name, mark = first_name(extra), marks[number]
        if name is not None and message.content:
            called[CALLED.format(number)] = name
            name, mark = None, CALLED.format(number)
        if first_name(extra) is not None:
            extra["tool_calls"][0] = named(extra["tool_calls"][0], mark)
        rows.append({"role": message.role, "content": marks[number] if name is None else "", **extra})
        contents.append(message.content if name is None else first_name(message.extra) or "")
        names.append(name)
    hidden = tuple(everywhere(tool, hide) for tool in tools)
    return Marked(rows, hidden, marks, tuple(names), tuple(contents), called)


def by_length(special: Sequence[str]) -> list[tuple[int, str]]:
    """Special tokens with their numbers, the longest first: one may be a part of another."""
    return sorted(enumerate(special), key=lambda one: -len(one[1]))


def everywhere(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text and every key in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): everywhere(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [everywhere(one, change) for one in value]
    return value


def first_name(extra: Mapping[str, Any]) -> str | None:
    """The name of the first tool that a message calls; None where it calls none, or the call has no name."""
    calls = extra.get("tool_calls")
    call = calls[0] if isinstance(calls, list | tuple) and calls else None
    function = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) and name else None


def named(call: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A call of a tool under another name."""
    if "function" in call:
        return {**call, "function": {**call["function"], "name": name}}
    return {**call, "name": name}


def spelled(text: str, special: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text with its special tokens spelled out again, and where they stand."""
    made, spans = "", []
    for number, part in enumerate(SPELLED_PATTERN.split(text)):
        if number % 2:
            part = special[int(part)] if int(part) < len(special) else SPELLED.format(part)
            spans.append((len(made), len(made) + len(part)))
        made += part
    return made, tuple(spans)


def unmarked(content: str) -> tuple[str, ...]:
    """What a template may write for a content without changing what it says: itself, stripped, or as JSON has it."""
    quoted = json.dumps(content, ensure_ascii=False)[1:-1]
    return content, content.strip(), content.rstrip(), content.lstrip(), quoted
