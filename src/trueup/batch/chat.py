"""Conversations as text: a chat template rendered once, with the span of every message known.

The spans come from a second rendering whose contents are placeholders: what stands around the placeholders is
the template's own text. Nothing is found by subtracting one rendering from another.

There is a placeholder for what each message says, and for every special token spelled elsewhere. What a message says
is its content. A message that only calls a tool has none, and many templates then write none; its placeholder stands
for the name of the first tool it calls.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trueup.errors import InputError
from trueup.feedback.records import Message, Tools
from trueup.feedback.turns import is_learned

MARK = "\ue000{}\ue001"
"""In place of what the message of that number says."""
SPELLED = "\ue002{}\ue003"
"""In place of the special token of that number, where a tool or a key beside the content spells it."""
CALLED = "\ue004{}\ue005"
"""In place of the name of the first tool called by the message of that number, where the message has a content too."""
SPELLED_PATTERN = re.compile("\ue002([0-9]+)\ue003")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text: a message's content, or the template's own text between two contents."""

    text: str
    content: bool
    """True for what a message says, False for the template's own text."""
    assistant: bool
    """True for an assistant's words, for the template's text that ends them, and for what the template writes
    between its heading and an assistant's words; not for a turn that is switched off in the loss."""
    spelled: tuple[tuple[int, int], ...] = ()
    """Where in the template's text a tool, or a key of a message beside its content, spells a special token."""

    def before(self, stop: int) -> "Piece":
        """The piece up to a place."""
        inside = tuple(span for span in self.spelled if span[1] <= stop)
        return replace(self, text=self.text[:stop], spelled=inside)

    def after(self, start: int) -> "Piece":
        """The piece from a place on."""
        inside = tuple((one - start, other - start) for one, other in self.spelled if one >= start)
        return replace(self, text=self.text[start:], spelled=inside)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation split where the response begins."""

    prompt: tuple[Piece, ...]
    response: tuple[Piece, ...]
    note: str | None = None
    """Something the user should know of this template, the same text for every example it concerns."""


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


def render(
    tokenizer: Any,
    prompt: Sequence[Message],
    response: Sequence[Message],
    opening: tuple[Piece, ...] | None = None,
    *,
    tools: Tools = (),
    special: Sequence[str] = (),
) -> Rendered:
    """Render prompt and response together and cut them where the model starts to speak.

    Args:
        opening: what `render_prompt` gives for the same prompt, where it is known already.
        tools: what the assistant may call.
        special: texts of special tokens, so that it is known where a message spells one.

    Raises:
        InputError: the template fails on this conversation, or rewrites contents so that they cannot be found.
    """
    pieces = _pieces(tokenizer, [*prompt, *response], tools, special)
    place = 2 * len(prompt)
    *earlier, last = pieces[: place + 1]
    rest = pieces[place + 1 :]
    opening = opening or render_prompt(tokenizer, prompt, tools=tools, special=special)
    opened = "".join(piece.text for piece in opening)
    start = "".join(piece.text for piece in earlier)
    if sum(turn.role == "assistant" for turn in response) > 1:
        plain = "".join(piece.text for piece in _pieces(tokenizer, prompt, tools, special))
        rest = _headed(rest, opened.removeprefix(plain) if opened.startswith(plain) else "")
    if (start + last.text).startswith(opened) and len(opened) >= len(start):
        # The template may write something the model has to produce itself at inference, e.g. an empty thought.
        own = replace(last.after(len(opened) - len(start)), assistant=is_learned(response[0]))
        return Rendered(opening, (own, *rest) if own.text else tuple(rest))
    differs = f"with {_tail(opened)} at inference but with {_tail(start + last.text)} in a whole conversation"
    if response and not response[0].content:
        # What stands before a call belongs to it, and where it begins cannot be told.
        raise InputError(
            f"the chat template opens a call of a tool {differs}. Give another template with --chat-template FILE"
        )
    note = f"the chat template opens an answer {differs}; training uses the former"
    return Rendered(opening, tuple(rest), note)


def render_prompt(
    tokenizer: Any, prompt: Sequence[Message], *, tools: Tools = (), special: Sequence[str] = ()
) -> tuple[Piece, ...]:
    """The prompt as a model is given it at inference, up to where it starts to speak; none of it to be learned.

    Raises:
        InputError: as `render`.
    """
    pieces = _pieces(tokenizer, prompt, tools, special, generate=True)
    return tuple(replace(piece, assistant=False) for piece in pieces)


def leaves_out_tools(tokenizer: Any, prompt: Sequence[Message], tools: Tools) -> bool:
    """Whether the template writes the same prompt with the tools as without them."""
    messages = [_plain(message) for message in prompt]
    return _apply(tokenizer, messages, tools, True) == _apply(tokenizer, messages, (), True)


def _headed(pieces: Sequence[Piece], heading: str) -> list[Piece]:
    """The pieces, with what stands between the heading of a turn and the assistant's words in it set apart."""
    made: list[Piece] = []
    for number, piece in enumerate(pieces):
        following = pieces[number + 1] if number + 1 < len(pieces) else None
        at = piece.text.rfind(heading) if heading else -1
        if not piece.content and following is not None and following.assistant and at >= 0:
            end = at + len(heading)
            made.append(piece.before(end))
            piece = replace(piece.after(end), assistant=True)
        if piece.text or piece.content:
            made.append(piece)
    return made


def _pieces(
    tokenizer: Any,
    messages: Sequence[Message],
    tools: Tools,
    special: Sequence[str],
    generate: bool = False,
) -> list[Piece]:
    """What the template makes of the messages: its own text and their contents in turn, its own first and last."""
    shown = marked(messages, tools, special)
    text = _apply(tokenizer, [_plain(message) for message in messages], tools, generate)
    frame = _frame(_apply(tokenizer, shown.messages, shown.tools, generate), shown)
    own = [spelled(between, special) for between in frame]
    contents = _match(text, [between for between, _ in own], shown.contents)
    pieces = [Piece(own[0][0], content=False, assistant=False, spelled=own[0][1])]
    for message, content, (after, spans) in zip(messages, contents, own[1:], strict=True):
        speaks = is_learned(message)
        pieces.append(Piece(content, content=True, assistant=speaks))
        pieces.append(Piece(after, content=False, assistant=speaks, spelled=spans))
    return pieces


def _plain(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content, **message.extra}


def _apply(tokenizer: Any, messages: list[dict[str, Any]], tools: Tools, generate: bool) -> str:
    declared = [dict(tool) for tool in tools] or None
    roles = ", ".join(str(message["role"]) for message in messages)
    remedy = "give another template with --chat-template FILE"
    try:
        return str(
            tokenizer.apply_chat_template(
                messages, tools=declared, tokenize=False, add_generation_prompt=generate
            )
        )
    except Exception as error:  # the template is a program of the model's author and may raise anything
        raise InputError(
            f"the chat template refuses a conversation of {roles}: {str(error) or type(error).__name__}. "
            f"Mend the row, or {remedy}"
        ) from error


def _frame(text: str, shown: Marked) -> list[str]:
    """The template's own text around the placeholders: one more piece than there are messages."""
    for mark, tool in shown.called.items():
        if mark not in text:
            raise InputError(
                "the chat template leaves out the call of a tool where the message says something too. Mend the row, "
                "or give another template with --chat-template FILE"
            )
        text = text.replace(mark, tool)
    frame, rest = [], text
    for mark, name in zip(shown.marks, shown.names, strict=True):
        before, found, rest = rest.partition(mark)
        # A template may repeat the name of a tool, and the first place is where it is called.
        rest = rest if name is None else rest.replace(mark, name)
        if not found or mark in rest:
            raise InputError(
                "the chat template leaves out, repeats or reorders messages, so the response cannot be found in "
                "what it renders. Give another template with --chat-template FILE"
            )
        frame.append(before)
    return [*frame, rest]


def _match(text: str, frame: Sequence[str], given: Sequence[str]) -> list[str]:
    """Each message's content as the template wrote it: as given, stripped, or as JSON has it."""
    contents, place = [], len(frame[0])
    fits = text.startswith(frame[0])
    for content, after in zip(given, frame[1:], strict=True):
        for written in unmarked(content):
            if text.startswith(written + after, place):
                contents.append(written)
                place += len(written) + len(after)
                break
        else:
            fits = False
            break
    if not fits or place != len(text):
        raise InputError(
            "the chat template rewrites what a message says (beyond stripping spaces), so that it cannot be told "
            "apart from the template's own text. Give another template with --chat-template FILE"
        )
    return contents


def _tail(text: str) -> str:
    return repr(text if len(text) <= 40 else "..." + text[-40:])


def marked(messages: Sequence[Message], tools: Tools, special: Sequence[str]) -> Marked:
    """Put placeholders into a conversation. `special` holds the texts of special tokens."""

    def hide(text: str) -> str:
        # The longest first: one may be a part of another.
        for number, one in sorted(enumerate(special), key=lambda numbered: -len(numbered[1])):
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
