"""A system prompt under a key of its own, `{"system": "Be short.", ...}`: it stands before the other messages."""

from trueup.feedback.fields import Place, optional_text
from trueup.feedback.layouts.layout import RowValue
from trueup.feedback.records import Content, Message

RAW = (
    "a system prompt is for a chat template, but the prompt is raw text, which none renders; give the prompt as "
    "messages, or leave the key out"
)
TWICE = "differs from the system prompt with which the messages begin; keep one of them"


def with_system(prompt: Content, row: RowValue, place: Place) -> Content:
    """The prompt after the row's system prompt, if it has one.

    Raises:
        InputError: it is not text, the prompt is raw text, or the messages begin with another system prompt.
    """
    if isinstance(prompt, str):
        if optional_text(row, "system", place):
            raise place.key("system").fault(RAW)
        return prompt
    return after_system(prompt, row, place)


def after_system(turns: tuple[Message, ...], row: RowValue, place: Place) -> tuple[Message, ...]:
    """The same for turns."""
    system = optional_text(row, "system", place)
    if not system:
        return turns
    if turns and turns[0].role in ("system", "developer"):
        if turns[0].content != system:
            raise place.key("system").fault(TWICE)
        return turns
    return (Message("system", system), *turns)
