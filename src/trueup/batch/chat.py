"""Conversations as text: a chat template rendered once, with the span of every message known.

The spans come from a second rendering whose contents are placeholders: what stands around the placeholders is
the template's own text. Nothing is found by subtracting one rendering from another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from trueup.errors import InputError
from trueup.feedback.records import Message


class Template(Protocol):
    """The one method of a tokenizer that rendering needs."""

    def apply_chat_template(
        self, conversation: list[dict[str, object]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text: a message's content, or the template's own text between two contents."""

    text: str
    content: bool
    """True for what somebody wrote, False for the template's own."""
    assistant: bool
    """True for an assistant's words and for the template's text that ends them."""


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
) -> Rendered:
    """Render prompt and response together and cut them where the model starts to speak.

    Args:
        opening: `render_prompt(template, prompt)`, where it is known already.

    Raises:
        InputError: the template fails on this conversation, or rewrites contents so that they cannot be found.
    """
    pieces = _pieces(template, [*prompt, *response])
    rest = tuple(pieces[2 * len(prompt) + 1 :])
    opening = opening or render_prompt(template, prompt)
    before = "".join(piece.text for piece in pieces[: 2 * len(prompt) + 1])
    asked = "".join(piece.text for piece in opening)
    if before == asked:
        return Rendered(opening, rest)
    if before.startswith(asked):
        # The template writes something the model has to produce itself at inference, e.g. an empty thought.
        return Rendered(opening, (Piece(before[len(asked) :], content=False, assistant=True), *rest))
    note = (
        f"the chat template opens an answer with {_tail(asked)} at inference but with {_tail(before)} in a "
        "whole conversation; training uses the former"
    )
    return Rendered(opening, rest, note)


def render_prompt(template: Template, prompt: Sequence[Message]) -> tuple[Piece, ...]:
    """The prompt as a model is given it at inference, up to where it starts to speak; none of it to be learned.

    Raises:
        InputError: as `render`.
    """
    pieces = _pieces(template, prompt, generate=True)
    return tuple(replace(piece, assistant=False) for piece in pieces)


def _pieces(template: Template, messages: Sequence[Message], generate: bool = False) -> list[Piece]:
    """What the template makes of the messages: its own text and their contents in turn, its own first and last."""
    marks = [f"\ue000{number}\ue001" for number in range(len(messages))]
    text = _apply(template, messages, [message.content for message in messages], generate)
    frame = _frame(_apply(template, messages, marks, generate), marks)
    contents = _match(text, frame, messages)
    pieces = [Piece(frame[0], content=False, assistant=False)]
    for message, content, after in zip(messages, contents, frame[1:], strict=True):
        speaks = message.role == "assistant"
        pieces.append(Piece(content, content=True, assistant=speaks))
        pieces.append(Piece(after, content=False, assistant=speaks))
    return pieces


def _apply(template: Template, messages: Sequence[Message], contents: Sequence[str], generate: bool) -> str:
    conversation = [
        {"role": message.role, "content": content, **message.extra}
        for message, content in zip(messages, contents, strict=True)
    ]
    try:
        return template.apply_chat_template(conversation, tokenize=False, add_generation_prompt=generate)
    except Exception as error:  # the template is a program of the model's author and may raise anything
        roles = ", ".join(message.role for message in messages)
        raise InputError(
            f"the chat template refuses a conversation of {roles}: {str(error) or type(error).__name__}. "
            "Mend the row, or give another template with --chat-template FILE"
        ) from error


def _frame(marked: str, marks: Sequence[str]) -> list[str]:
    """The template's own text around the placeholders: one more piece than there are messages."""
    frame, rest = [], marked
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            raise InputError(
                "the chat template leaves out, repeats or reorders messages, so the response cannot be found in "
                "what it renders. Give another template with --chat-template FILE"
            )
        frame.append(before)
    return [*frame, rest]


def _match(text: str, frame: Sequence[str], messages: Sequence[Message]) -> list[str]:
    """Each message's content as the template wrote it: as given, or stripped."""
    contents, place = [], len(frame[0])
    fits = text.startswith(frame[0])
    for message, after in zip(messages, frame[1:], strict=True):
        given = message.content
        for content in (given, given.strip(), given.rstrip(), given.lstrip()):
            if text.startswith(content + after, place):
                contents.append(content)
                place += len(content) + len(after)
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
