"""What layouts of conversations share: histories, and examples made of turns."""

from trueup.feedback.fields import Place, items, optional_number, optional_text, text
from trueup.feedback.layouts.frameworks.dialects import Dialect, turn
from trueup.feedback.layouts.layout import RowValue, Unusable
from trueup.feedback.layouts.system import with_system
from trueup.feedback.records import Comparison, Content, Example, Message, Origin, Response
from trueup.feedback.tools import declared
from trueup.feedback.turns import as_response, split_at_last_request

Turns = tuple[Message, ...]

COMMON = ("source", "system", "tools")
"""Keys that every example made here uses where they are there."""


def history(row: RowValue, place: Place) -> Turns:
    """Earlier rounds, `[["Hello", "Hi"], ...]`; none where the key is absent or null."""
    given = row.get("history")
    made: list[Message] = []
    at = place.key("history")
    for index, value in enumerate([] if given is None else items(given, at, "rounds")):
        here = at.item(index)
        round_ = items(value, here, "two texts")
        if len(round_) != 2:
            raise here.unexpected(round_, "two texts: what was asked and what was answered")
        asked, answered = (text(one, here.item(side)) for side, one in enumerate(round_))
        made += [Message("user", asked), Message("assistant", answered)]
    return tuple(made)


def last_exchange(turns: Turns, at: Place) -> tuple[Turns, Turns] | Unusable:
    """The conversation up to its last request, and the response to it."""
    if not any(one.role == "assistant" for one in turns):
        return Unusable("the conversation has no turn of the assistant")
    prompt, response = split_at_last_request(turns)
    if not response or response[-1].role != "assistant":
        return Unusable("the conversation does not end with a turn of the assistant")
    if response[0].role != "assistant":
        raise at.fault("the answer of a tool stands where no turn of the assistant called it")
    return prompt, response


def last_response(
    turns: Turns, at: Place, row: RowValue, origin: Origin, label: float | None = None
) -> Example | Unusable:
    """The last response of a conversation with its label; without one it is to be imitated."""
    split = last_exchange(turns, at)
    if isinstance(split, Unusable):
        return split
    return single(*split, row, origin, label=label)


def single(
    prompt: Content,
    response: Content,
    row: RowValue,
    origin: Origin,
    *,
    label: float | None = None,
    score: float | None = None,
) -> Example:
    """A prompt and one response; one without label and score is to be imitated."""
    place = Place(origin)
    source = optional_text(row, "source", place)
    shown = label is None and score is None
    prompt = with_system(prompt, row, place)
    made = Response(response, score=score, label=label, demonstration=shown, source=source)
    return Example(prompt, (made,), origin=origin, tools=declared(row, prompt, place))


def compared(
    prompt: Content,
    chosen: Content,
    rejected: Content,
    row: RowValue,
    origin: Origin,
    scores: tuple[str, str] | None = None,
) -> Example:
    """A pair; `scores` are the keys under which the row may score its sides."""
    place = Place(origin)
    source = optional_text(row, "source", place)
    prompt = with_system(prompt, row, place)
    high, low = (optional_number(row, key, place) for key in scores) if scores else (None, None)
    responses = (Response(chosen, score=high, source=source), Response(rejected, score=low, source=source))
    return Example(prompt, responses, (Comparison(better=0, worse=1),), origin, declared(row, prompt, place))


def side(value: object, place: Place, dialect: Dialect, prompt: Content) -> Content:
    """One turn, or its text, as a response to the prompt.

    Raises:
        InputError: it is neither, or it is not a turn of the assistant.
    """
    if isinstance(value, str):
        return as_response(value, prompt, place)
    _, message = turn(value, place, dialect)
    if message.role != "assistant":
        raise place.unexpected(value, "a turn of the assistant: a side is a response")
    return (message,)
