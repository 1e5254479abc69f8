"""Conversations as text: a chat template rendered once, with the span of every message known.

The spans come from a second rendering whose contents are placeholders: what stands around the placeholders is
the template's own text. Nothing is found by subtracting one rendering from another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from trueup.batch.placeholders import Marked, marked, spelled, unmarked
from trueup.errors import InputError
from trueup.feedback.records import Message, Tools
from trueup.feedback.turns import is_learned


class Template(Protocol):
    """The one method of a tokenizer that rendering needs."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None,
        tokenize: bool,
        add_generation_prompt: bool,
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text: a message's content, or the template's own text between two contents."""

    text: str
    content: bool
    """True for what somebody wrote, False for the template's own."""
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


def render(
    template: Template,
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
        special: texts of special tokens, so that it is known where somebody spells one.

    Raises:
        InputError: the template fails on this conversation, or rewrites contents so that they cannot be found.
    """
    pieces = _pieces(template, [*prompt, *response], tools, special)
    place = 2 * len(prompt)
    *earlier, last = pieces[: place + 1]
    rest = pieces[place + 1 :]
    opening = opening or render_prompt(template, prompt, tools=tools, special=special)
    asked = "".join(piece.text for piece in opening)
    start = "".join(piece.text for piece in earlier)
    if sum(turn.role == "assistant" for turn in response) > 1:
        whole = "".join(piece.text for piece in _pieces(template, prompt, tools, special))
        rest = _headed(rest, asked.removeprefix(whole) if asked.startswith(whole) else "")
    if (start + last.text).startswith(asked) and len(asked) >= len(start):
        # The template may write something the model has to produce itself at inference, e.g. an empty thought.
        own = replace(last.after(len(asked) - len(start)), assistant=is_learned(response[0]))
        return Rendered(opening, (own, *rest) if own.text else tuple(rest))
    differs = f"with {_tail(asked)} at inference but with {_tail(start + last.text)} in a whole conversation"
    if response and not response[0].content:
        # What stands before a call belongs to it, and where it begins cannot be told.
        raise InputError(
            f"the chat template opens a call of a tool {differs}. Give another template with --chat-template FILE"
        )
    note = f"the chat template opens an answer {differs}; training uses the former"
    return Rendered(opening, tuple(rest), note)


def render_prompt(
    template: Template, prompt: Sequence[Message], *, tools: Tools = (), special: Sequence[str] = ()
) -> tuple[Piece, ...]:
    """The prompt as a model is given it at inference, up to where it starts to speak; none of it to be learned.

    Raises:
        InputError: as `render`.
    """
    pieces = _pieces(template, prompt, tools, special, generate=True)
    return tuple(replace(piece, assistant=False) for piece in pieces)


def leaves_out_tools(template: Template, prompt: Sequence[Message], tools: Tools) -> bool:
    """Whether the template writes the same prompt with the tools as without them."""
    messages = [_plain(message) for message in prompt]
    return _apply(template, messages, tools, True) == _apply(template, messages, (), True)


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
    template: Template,
    messages: Sequence[Message],
    tools: Tools,
    special: Sequence[str],
    generate: bool = False,
) -> list[Piece]:
    """What the template makes of the messages: its own text and their contents in turn, its own first and last."""
    shown = marked(messages, tools, special)
    text = _apply(template, [_plain(message) for message in messages], tools, generate)
    frame = _frame(_apply(template, shown.messages, shown.tools, generate), shown)
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


def _apply(template: Template, messages: list[dict[str, Any]], tools: Tools, generate: bool) -> str:
    declared = [dict(tool) for tool in tools] or None
    roles = ", ".join(str(message["role"]) for message in messages)
    remedy = "give another template with --chat-template FILE"
    try:
        return template.apply_chat_template(
            messages, tools=declared, tokenize=False, add_generation_prompt=generate
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


def _tail(text: str, length: int = 40) -> str:
    return repr(text if len(text) <= length else "..." + text[-length:])
