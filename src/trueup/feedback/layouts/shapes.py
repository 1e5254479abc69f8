"""What layouts are made of: forms, in which rows write prompts and responses, and shapes of what is said of these."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from trueup.feedback import canonical, turns
from trueup.feedback.fields import Field
from trueup.feedback.layouts.layout import JUDGEMENTS, SIDES, Layout, RowValue
from trueup.feedback.records import Comparison, Content, Discarded, Example, Message, Prompt, Response

COMMON = ("source", "system", *canonical.PROMPT_KEYS[1:])
"""Keys that mean the same in every layout that reads them."""
DIFFERENT_PROMPTS = "the two sides have different prompts"
UNANSWERED = "the conversation does not end with a turn of the assistant"
UNJUDGED = (Response(""), Response(""))
TIE = "the two responses tie"

Keys = tuple[str, ...]
Fits = Callable[[RowValue], bool]
ANY: Fits = lambda row: True  # noqa: E731
Turns = tuple[Message, ...]
Exchange = tuple[Content, tuple[Content, ...]]
Ask = Callable[[Field, str], Content | Discarded]
Read = Callable[[Field, str], Turns]
Answer = Callable[[Field, Content], Content]
Said = Callable[[Field], tuple[Response, ...]]
Verdict = int | Comparison | Discarded | None
"""The position of the better one of two responses, or how sure that is; None for a tie."""
Choose = Callable[[Field], Verdict]
C = TypeVar("C", bound=Content)


@dataclass(frozen=True, slots=True)
class Form:
    keys: Keys
    read: Callable[[Field], Exchange | Discarded]
    optional: Keys = COMMON
    """As `Layout.optional`; so are the fields below as those of a layout."""
    text: Keys = ()
    request: Keys = ()
    further: bool = False
    fits: Fits = ANY


def request(said: str) -> Turns:
    return (Message("user", said),)


def answer(said: str) -> Turns:
    return (Message("assistant", said),)


def user_turn(given: Field) -> Turns:
    return request(given.text())


def like_prompt(given: Field, prompt: Content) -> Content:
    return turns.as_response(turns.content(given), prompt, given)


def as_turn(given: Field, prompt: Content) -> Content:
    return answer(given.text())


def holds(key: str, mark: str, roles: Keys = ()) -> Fits:

    def found(row: RowValue) -> bool:
        given = row[key]
        objects = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
        return any(mark in one or one.get("role") in roles for one in objects)

    return found


TYPES: Mapping[str, type] = {"object": dict, "list": list, "text": str}


def of_types(expected: Mapping[str, str]) -> Fits:
    return lambda row: all(isinstance(row[key], TYPES[kind]) for key, kind in expected.items())


def by_value(read: Callable[[Field], C]) -> Callable[[Field, str], C]:
    return lambda row, key: read(row[key])


AS_GIVEN = by_value(turns.content)
MESSAGES = by_value(turns.messages)


def form(*keys: str, **more: Any) -> Form:
    return Form(keys, **more)


def written(prompt: str, *responses: str, ask: Ask = AS_GIVEN, answer: Answer = like_prompt, **more: Any) -> Form:
    """A prompt under one key, and each response under another; all keys hold text unless `more`, fields of the form,
    says which."""

    def read(row: Field) -> Exchange | Discarded:
        found = ask(row, prompt)
        known: Content = () if isinstance(found, Discarded) else found
        contents = tuple(answer(row[key], known) for key in responses)
        return found if isinstance(found, Discarded) else (found, contents)

    keys = (prompt, *responses)
    return Form(keys, read, **{"text": keys, **more})


texts = partial(written, answer=as_turn)
answered = partial(texts, ask=by_value(user_turn))


def conversation(
    key: str, read: Read = MESSAGES, fits: Fits = ANY, counted: bool = False, optional: Keys = COMMON
) -> Form:
    """A list of turns: what follows the last request is the response. `counted`: each item is one turn."""

    def split(row: Field) -> Exchange | Discarded:
        found = last_exchange(read(row, key), row.at(key), counted)
        return found if isinstance(found, Discarded) else (found[0], (found[1],))

    return Form((key,), split, optional, fits=fits)


def last_exchange(said: Turns, at: Field, counted: bool = False) -> tuple[Turns, Turns] | Discarded:
    """The conversation up to the last turn that is neither the assistant's nor a tool's, and what follows it."""
    if not any(turn.role == "assistant" for turn in said):
        return Discarded("the conversation has no turn of the assistant")
    prompt, response = turns.split_at_last_request(said)
    if not response or response[-1].role != "assistant":
        return Discarded(UNANSWERED)
    if response[0].role == "assistant":
        return prompt, response
    if counted:
        first = at.at(len(prompt)).at("role", response[0].role)
        raise first.unexpected("an assistant turn: a response begins with one")
    raise at.fault("the answer of a tool stands where no turn of the assistant called it")


def conversations(
    better: str, worse: str, read: Read, optional: Keys = COMMON, text: Keys = (), request: Keys = ()
) -> Form:
    """Two conversations: the turns that they share are the prompt, the rest of each is its response."""
    keys = (better, worse)

    def split(row: Field) -> Exchange | Discarded:
        first, second = (read(row, key) for key in keys)
        if not first or not second:
            return Discarded("a response is empty")
        if any(side[-1].role != "assistant" for side in (first, second)):
            return Discarded(UNANSWERED)
        shared = turns.shared_turns(first, second)
        rest = [side[shared:] for side in (first, second)]
        if any(turn.role not in turns.RESPONSE_ROLES for side in rest for turn in side):
            return Discarded(DIFFERENT_PROMPTS)
        prompt = first[:shared]
        given = zip(keys, rest, strict=True)
        return prompt, tuple(turns.as_response(side, prompt, row.at(key), shared) for key, side in given)

    return Form(keys, split, optional, text, request)


def shape(
    name: str,
    form: Form,
    meaning: str,
    choose: Choose | None = None,
    *,
    said: Said = lambda *_: UNJUDGED,
    scores: Keys = (),
    sources: Keys = (),
    beside: Keys = (),
    used: Keys = (),
    foreign: Keys = (),
) -> Layout:
    """The layout of rows of a form, of whose responses something is said; `choose` gives the verdict on two.
    Further keys are `beside` those of the form in every row, or `used` where they are there."""

    def convert(row: Field) -> Example | Discarded:
        read, given = form.read(row), said(row)
        for field, named, value in (("score", scores, Field.number), ("source", sources, Field.text)):
            found: list[dict[str, Any]] = [{field: row.optional(key, value)} for key in named]
            given = tuple(map(lambda one, more: replace(one, **more), given, found)) if found else given
        verdict = choose(row) if choose else None
        if isinstance(read, Discarded):
            return read
        prompt, contents = read
        responses = tuple(replace(one, content=what) for one, what in zip(given, contents, strict=True))
        return judged(prompt, responses, verdict) if choose else Example(Prompt(prompt), responses)

    return Layout(
        name=name,
        keys=(*form.keys, *beside),
        meaning=meaning,
        convert=convert,
        optional=(*form.optional, *scores, *sources, *used),
        text=(*form.text, *sources, *(key for key in form.optional if key in ("source", "system"))),
        foreign=foreign,
        fits=form.fits,
        request=form.request,
        further=form.further,
    )


def answered_keys(form: Form) -> str:
    more = (key for key in form.optional if key not in (*COMMON, "history"))
    return " and ".join(f"`{key}`" for key in (form.keys[0], *more))


def pairs(name: str, form: Form, meaning: str = "", scores: Keys = (), foreign: Keys = ()) -> Layout:
    better, worse = form.keys[-2:]
    usual = f"A pair: `{better}` was preferred to `{worse}` as an answer to {answered_keys(form)}."
    if len(form.keys) == 2:
        prompt = "the turns they share are the prompt"
        usual = f"A pair of conversations: {prompt}; that of `{better}` was preferred."
    return shape(name, form, meaning or usual, lambda *_: 0, scores=scores, foreign=foreign)


@dataclass(frozen=True, slots=True)
class Grade:
    """What is said of a response, read from its value, and in words of the form and the key."""

    read: Callable[[Field], Response]
    meaning: str


LABEL = Grade(
    lambda given: Response("", label=given.label()),
    "A point: `{key}` says how desirable {what} {verb}{to}, from false or 0 to true or 1.",
)
SCORE = Grade(
    lambda given: Response("", score=given.number()),
    "A response with a score: `{key}` scores {what}{to}; higher is better.",
)


def worded(form: Form) -> dict[str, str]:
    if len(form.keys) == 1:
        return {"what": "the turns after the last one of the user", "verb": "are", "to": ""}
    return {"what": f"`{form.keys[1]}`", "verb": "is", "to": f" as an answer to {answered_keys(form)}"}


def graded(
    name: str, form: Form, labels: Keys = (), scores: Keys = (), meaning: str = "", foreign: Keys = SIDES
) -> tuple[Layout, ...]:
    """A response, and under one of the keys what is said of it; a layout for each key."""
    made = []
    for key, grade in [*((key, LABEL) for key in labels), *((key, SCORE) for key in scores)]:
        told = (meaning or grade.meaning).format(key=key, **worded(form))
        said = partial(lambda key, read, row: (read(row[key]),), key, grade.read)
        made.append(shape(name, form, told, said=said, beside=(key,), foreign=foreign))
    return tuple(made)


def demonstrations(name: str, form: Form, foreign: Keys = JUDGEMENTS) -> Layout:
    what, verb, to = worded(form).values()
    meaning = f"A demonstration: {what} {verb} {to.removeprefix(' as ') or 'a response'} to imitate."
    shown = (Response("", demonstration=True),)
    return shape(name, form, meaning, said=lambda *_: shown, foreign=foreign)


def singles(
    name: str, form: Form, labels: Keys = (), scores: Keys = (), foreign: Keys = (), either: bool = False
) -> tuple[Layout, ...]:
    """Every layout of one response: with a label under one of the keys, with a score, or to imitate.
    `{}` in the name becomes `labelled` or `scored`; `either`: a row with a label and a score is of neither layout."""
    with_label, with_score = ("labelled ", "scored ") if "{}" in name else (" with a label", " with a score")
    name = name if "{}" in name else name + "{}"
    beside = (*SIDES, *foreign)
    of_labels = (*scores, *beside) if either else beside
    return (
        *graded(name.format(with_label), form, labels, foreign=of_labels),
        *graded(name.format(with_score), form, scores=scores, foreign=(*labels, *beside)),
        demonstrations(name.format(""), form, foreign=(*JUDGEMENTS, *foreign)),
    )


def named(key: str, verdicts: Mapping[str, Verdict]) -> Choose:
    def choose(row: Field) -> Verdict:
        name = row[key].text()
        if name not in verdicts:
            raise row[key].unexpected(f"one of {', '.join(verdicts)}")
        return verdicts[name]

    return choose


def judged(prompt: Content, pair: tuple[Response, ...], verdict: Verdict) -> Example | Discarded:
    """Two responses and the verdict on them. A tie says nothing, but where its labels differ, both score 0."""
    if isinstance(verdict, Discarded):
        return verdict
    if verdict is not None:
        sure = verdict if isinstance(verdict, Comparison) else Comparison(verdict, 1 - verdict)
        return Example(Prompt(prompt), pair, (sure,))
    if all(one.score is None and one.label is None for one in pair):
        return Discarded(TIE)
    if None not in (labels := [one.label for one in pair]) and labels[0] != labels[1]:
        pair = tuple(replace(one, score=0.0) for one in pair)
    return Example(Prompt(prompt), pair)


def candidates(prompt: Content, responses: Sequence[Response], key: str) -> Example | Discarded:
    if not responses:
        return Discarded(f"the list of {key} is empty")
    return Example(Prompt(prompt), tuple(responses))


Several = tuple[Response, ...]


def demonstrated(responses: Sequence[Response], shown: Content, *, label: float | None = None) -> Several:
    """The responses with one to imitate: marked where it is among them, added where it is not."""
    if any(one.content == shown for one in responses):
        return tuple(replace(one, demonstration=one.content == shown) for one in responses)
    return (*responses, Response(shown, label=label, demonstration=True))
