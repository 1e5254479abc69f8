"""What layouts are made of: forms, in which rows write prompts and responses, and shapes of what is said of these.

A form reads a prompt and its responses; a shape adds a preference, a label or a score, or that a response is to be
imitated: `demonstrations("ms-swift queries", written("query", "response"), "A demonstration: ...")` is a layout.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from trueup.feedback.canonical import PROMPT_KEYS
from trueup.feedback.fields import Place, fields, items, label, needed, number, optional, text
from trueup.feedback.layouts.layout import JUDGEMENTS, SIDES, Draft, Layout, RowValue
from trueup.feedback.records import Comparison, Content, Discarded, Message, Response
from trueup.feedback.turns import as_response, content, split_at_last_request

COMMON = ("source", "system", *PROMPT_KEYS[1:])
"""Keys that mean the same in every layout that reads them."""
DIFFERENT_PROMPTS = "the two sides have different prompts"
UNANSWERED = "the conversation does not end with a turn of the assistant"
TIE = "the two responses tie"

Turns = tuple[Message, ...]
Exchange = tuple[Content, tuple[Content, ...]]
"""A prompt, and the responses to it."""
Ask = Callable[[RowValue, Place, str], Content | Discarded]
"""Row, its place, and a key -> the prompt."""
Answer = Callable[[object, Place, Content], Content]
"""The value of a key, its place, and the prompt -> a response."""
Said = Callable[[RowValue, Place], tuple[Response, ...]]
"""Row, and its place -> what is said of each response; the contents are filled in."""


@dataclass(frozen=True, slots=True)
class Form:
    """How rows write a prompt and the responses to it, whatever is said of these."""

    keys: tuple[str, ...]
    read: Callable[[RowValue, Place], Exchange | Discarded]
    text: tuple[str, ...] = ()
    """As `Layout.text`; so are the fields below as those of a layout."""
    optional: tuple[str, ...] = COMMON
    request: tuple[str, ...] = ()
    further: bool = False
    fits: Callable[[RowValue], bool] = lambda row: True


# What a value holds.


def request(said: str) -> Turns:
    """A prompt of one turn: what the user asked."""
    return (Message("user", said),)


def answer(said: str) -> Turns:
    """A response of one turn."""
    return (Message("assistant", said),)


def user_turn(value: object, place: Place) -> Turns:
    """The value, which is text, as a turn of the user."""
    return request(text(value, place))


def like_prompt(value: object, place: Place, prompt: Content) -> Content:
    """The value as a response of the same kind as the prompt: text as it is, or messages."""
    return as_response(content(value, place), prompt, place)


def as_turn(value: object, place: Place, prompt: Content) -> Content:
    """The value, which is text, as a turn of the assistant."""
    return answer(text(value, place))


def integer(value: object, place: Place, lowest: int, highest: int | None = None) -> int:
    """The value as a whole number in a range; 2.0 is one."""
    made = number(value, place)
    if made != int(made) or made < lowest or (highest is not None and made > highest):
        span = f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise place.unexpected(value, f"a whole number {span}")
    return int(made)


def text_under(row: RowValue, key: str, place: Place) -> str:
    """The text under a key that must be there."""
    return text(needed(row, key, place), place.key(key))


def objects(row: RowValue, key: str, place: Place, of: str = "objects") -> list[tuple[RowValue, Place]]:
    """The objects in the list under a key, each with its place; `of` says what they are, for the message."""
    at = place.key(key)
    return [
        (fields(value, at.item(index)), at.item(index)) for index, value in enumerate(items(row[key], at, of))
    ]


def holds(key: str, mark: str) -> Callable[[RowValue], bool]:
    """Whether an object in the list under `key` has the key `mark`."""

    def found(row: RowValue) -> bool:
        listed = row[key]
        return isinstance(listed, list) and any(isinstance(one, dict) and mark in one for one in listed)

    return found


# Forms.


def by_value(read: Callable[[object, Place], Content]) -> Ask:
    """The prompt is what the value of its key holds."""
    return lambda row, place, key: read(row[key], place.key(key))


AS_GIVEN = by_value(content)
"""Text as it is, or messages."""
USER_TURN = by_value(user_turn)


def written(
    prompt: str,
    *responses: str,
    ask: Ask = AS_GIVEN,
    answer: Answer = like_prompt,
    before: str = "",
    text: tuple[str, ...] | None = None,
    optional: tuple[str, ...] = COMMON,
    request: tuple[str, ...] = (),
    further: bool = False,
    fits: Callable[[RowValue], bool] = lambda row: True,
) -> Form:
    """A prompt under one key, and each response under another.

    Args:
        prompt, responses: the keys.
        ask, answer: how their values are read.
        before: what follows a prompt (`the two sides`), where one that ends with a turn of the assistant is said
            to be of no use before it.
        text, optional, request, further, fits: as of `Form`; all keys hold text where `text` does not say which.
    """

    def read(row: RowValue, place: Place) -> Exchange | Discarded:
        found = ask(row, place, prompt)
        known: Content = () if isinstance(found, Discarded) else found
        contents = tuple(answer(row[key], place.key(key), known) for key in responses)
        if isinstance(found, Discarded):
            return found
        if before and not isinstance(found, str) and found and found[-1].role == "assistant":
            return Discarded(f"the conversation ends with a turn of the assistant, before {before}")
        return found, contents

    keys = (prompt, *responses)
    return Form(keys, read, keys if text is None else text, optional, request, further, fits)


def conversation(
    key: str,
    read: Callable[[object, Place], Turns],
    fits: Callable[[RowValue], bool] = lambda row: True,
    counted: bool = False,
) -> Form:
    """A list of turns under one key: what follows the last request is the response, the rest is the prompt.

    `counted` says that `read` makes one turn of each item of the list, so that a fault can name the item.
    """

    def split(row: RowValue, place: Place) -> Exchange | Discarded:
        found = last_exchange(read(row[key], place.key(key)), place.key(key), counted)
        return found if isinstance(found, Discarded) else (found[0], (found[1],))

    return Form((key,), split, fits=fits)


def last_exchange(turns: Turns, at: Place, counted: bool = False) -> tuple[Turns, Turns] | Discarded:
    """The conversation up to the last turn that is neither the assistant's nor a tool's, and what follows it."""
    if not any(turn.role == "assistant" for turn in turns):
        return Discarded("the conversation has no turn of the assistant")
    prompt, response = split_at_last_request(turns)
    if not response or response[-1].role != "assistant":
        return Discarded(UNANSWERED)
    if response[0].role == "assistant":
        return prompt, response
    if counted:
        first = at.item(len(prompt)).key("role")
        raise first.unexpected(response[0].role, "an assistant turn: a response begins with one")
    raise at.fault("the answer of a tool stands where no turn of the assistant called it")


def history(row: RowValue, place: Place) -> Turns:
    """Earlier rounds, `[["Hello", "Hi"], ...]`; none where the key `history` is absent or null."""
    given = row.get("history")
    made: list[Message] = []
    at = place.key("history")
    for index, value in enumerate([] if given is None else items(given, at, "rounds")):
        here = at.item(index)
        round_ = items(value, here, "two texts")
        if len(round_) != 2:
            raise here.unexpected(round_, "two texts: what was asked and what was answered")
        question, reply = (text(one, here.item(side)) for side, one in enumerate(round_))
        made += [*request(question), *answer(reply)]
    return tuple(made)


# Shapes.


def shape(
    name: str,
    form: Form,
    meaning: str,
    said: Said,
    choose: Callable[[RowValue, Place], int | None] | None = None,
    *,
    keys: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
    foreign: tuple[str, ...] = (),
) -> Layout:
    """The layout of rows of a form, of whose responses something is said.

    Args:
        name, meaning, foreign: as of `Layout`.
        form: how the rows write prompt and responses.
        said: what they say of each response.
        choose: the position of that of two responses which was preferred, None for a tie; left out where none is.
        keys, optional: those beside the keys of the form.
    """

    def convert(row: RowValue, place: Place) -> Draft | Discarded:
        read = form.read(row, place)
        told = said(row, place)
        better = choose(row, place) if choose else None
        if isinstance(read, Discarded):
            return read
        prompt, contents = read
        responses = tuple(replace(one, content=what) for one, what in zip(told, contents, strict=True))
        return judged(prompt, responses, better) if choose else Draft(prompt, responses)

    return Layout(
        name=name,
        keys=(*form.keys, *keys),
        meaning=meaning,
        convert=convert,
        optional=(*form.optional, *optional),
        text=(*form.text, *(key for key in form.optional if key in ("source", "system"))),
        foreign=foreign,
        fits=form.fits,
        request=form.request,
        further=form.further,
    )


def pairs(
    name: str, form: Form, meaning: str, scores: tuple[str, ...] = (), foreign: tuple[str, ...] = ()
) -> Layout:
    """Two responses, the better one first; `scores` are the keys under which a row may score them."""
    said = scored_by(*scores) if scores else unjudged
    return shape(name, form, meaning, said, lambda *_: 0, optional=scores, foreign=foreign)


def points(
    name: str, form: Form, meaning: str, *keys: str, foreign: tuple[str, ...] = SIDES
) -> tuple[Layout, ...]:
    """A response with a label under one of the keys: true or false, or a number from 0 to 1; a layout for each key."""

    def said(row: RowValue, place: Place, key: str) -> tuple[Response, ...]:
        return (Response("", label=label(row[key], place.key(key))),)

    return tuple(
        shape(name, form, meaning.format(key=key), partial(said, key=key), keys=(key,), foreign=foreign)
        for key in keys
    )


def scored(
    name: str, form: Form, meaning: str, *keys: str, foreign: tuple[str, ...] = ()
) -> tuple[Layout, ...]:
    """A response with a score under one of the keys; a layout for each key."""

    def said(row: RowValue, place: Place, key: str) -> tuple[Response, ...]:
        return (Response("", score=number(row[key], place.key(key))),)

    return tuple(
        shape(name, form, meaning.format(key=key), partial(said, key=key), keys=(key,), foreign=foreign)
        for key in keys
    )


def demonstrations(name: str, form: Form, meaning: str, foreign: tuple[str, ...] = JUDGEMENTS) -> Layout:
    """A response to imitate, of which nothing is said."""
    return shape(name, form, meaning, lambda *_: (Response("", demonstration=True),), foreign=foreign)


def unjudged(row: RowValue, place: Place) -> tuple[Response, ...]:
    """Two responses of which nothing is said."""
    return Response(""), Response("")


def scored_by(*keys: str) -> Said:
    """A response for each key, with the score under it, if any."""
    return lambda row, place: tuple(Response("", score=optional(row, key, place, number)) for key in keys)


def judged(prompt: Content, pair: tuple[Response, ...], better: int | None) -> Draft | Discarded:
    """Two responses and which was preferred; None is a tie, which is nothing to learn from on its own.

    Where a tie has two labels that differ, both get the score 0: the tie compares them, not the labels.
    """
    if better is not None:
        return Draft(prompt, pair, (Comparison(better, 1 - better),))
    if all(one.score is None and one.label is None for one in pair):
        return Discarded(TIE)
    if None not in (labels := [one.label for one in pair]) and labels[0] != labels[1]:
        pair = tuple(replace(one, score=0.0) for one in pair)
    return Draft(prompt, pair)


def candidates(prompt: Content, responses: Sequence[Response], key: str) -> Draft | Discarded:
    """A prompt and what the list under `key` holds, which may be nothing."""
    return Draft(prompt, tuple(responses)) if responses else Discarded(f"the list of {key} is empty")


def demonstrated(
    responses: Sequence[Response], shown: Content, *, label: float | None = None
) -> tuple[Response, ...]:
    """The responses with one to imitate: marked where it is among them, added where it is not."""
    if any(one.content == shown for one in responses):
        return tuple(replace(one, demonstration=one.content == shown) for one in responses)
    return (*responses, Response(shown, label=label, demonstration=True))
