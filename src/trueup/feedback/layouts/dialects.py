"""Turns as other formats write them: other names for keys and roles, calls of tools as text."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trueup.feedback.fields import Field
from trueup.feedback.records import Content, Message
from trueup.feedback.turns import NOT_LEARNED, as_response, check_weights, spoken, structured, with_calls
from trueup.words import did_you_mean

CALL = "call"
"""Stands among the roles of a dialect for a turn of the assistant that calls a tool, written as JSON."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a format writes a turn: `{"from": "human", "value": "Hello"}`."""

    keys: tuple[tuple[str, str], ...]
    """The keys for who speaks and what is said; a turn is read by the first pair that it has, else of which it has the
    first."""
    roles: Mapping[str, tuple[str, ...]]
    """Our role, or `CALL` -> its names, in lower case."""
    content: Callable[[Field], str] = spoken
    """What is said, read from its value."""


SHAREGPT = Dialect(
    (("from", "value"), ("role", "content")),
    {
        "system": ("system",),
        "user": ("human", "user"),
        "assistant": ("gpt", "assistant", "chatgpt", "bot", "model"),
        "tool": ("observation", "tool", "tool_response", "function_response"),
        CALL: ("function_call", "tool_call"),
    },
)
"""LLaMA-Factory, torchtune, NeMo-Aligner."""
PLAIN = {role: (role,) for role in ("system", "user", "assistant", "tool")}
MS_SWIFT = Dialect((("role", "content"),), {**PLAIN, "tool": ("tool", "tool_response"), CALL: ("tool_call",)})
TURBO_ALIGNMENT = Dialect((("role", "content"),), {**PLAIN, "assistant": ("bot", "assistant")})
COHERE = Dialect((("role", "content"), ("role", "message")), {**PLAIN, "assistant": ("chatbot", "assistant")})


def turns(given: Field, dialect: Dialect) -> tuple[Message, ...]:
    """The value as messages; a call that directly follows a turn of the assistant is made part of it."""
    made: list[Message] = []
    for one in given.items("turns"):
        role, message = turn(one, dialect)
        if role == CALL and made and made[-1].role == "assistant":
            made[-1] = joined(made[-1], message)
        else:
            made.append(message)
    return tuple(made)


def turns_in(dialect: Dialect) -> Callable[[Field, str], tuple[Message, ...]]:
    """The turns under a key of a row."""
    return lambda row, key: turns(row[key], dialect)


def turn(row: Field, dialect: Dialect) -> tuple[str, Message]:
    """One turn as a message, and its role in the dialect; keys that mean nothing here go to `extra`.

    Raises:
        InputError: a key is missing, the role is unknown, or a call is not JSON.
    """
    row.object()
    speaker, said = max(dialect.keys, key=lambda pair: (pair[0] in row) + (pair[0] in row and pair[1] in row))
    name = row[speaker].text()
    role = next((ours for ours, names in dialect.roles.items() if name.lower() in names), None)
    if role is None:
        known = [name for names in dialect.roles.values() for name in names]
        hint = did_you_mean(name.lower(), known, quoted=True)
        raise row[speaker].unexpected(f"one of {', '.join(known)}{hint}")
    check_weights(row.value, row)
    extra = with_calls(
        {
            key: one
            for key, one in row.value.items()
            if key not in (speaker, said) and says_something(key, one)
        },
        row,
    )
    if row.get(said) is None and extra.get("tool_calls"):
        return role, Message(role, "", extra)
    if role == CALL:
        thought, calls = called(row[said])
        return role, Message("assistant", thought, {**extra, "tool_calls": calls})
    return role, Message(role, dialect.content(row[said]), extra)


def says_something(key: str, value: object) -> bool:
    """Whether a further key of a turn is worth keeping: null is not, nor a loss that is not switched off."""
    return value is not None and NOT_LEARNED.get(key, value) == value


def called(written: Field) -> tuple[str, list[object]]:
    """What is thought before a call, and the calls, as chat templates take them.

    `'{"name": "add", "arguments": {"a": 1}}'`, or a list of such, or such after `<think>...</think>`.
    """
    thought, mark, rest = written.text().rpartition("</think>")
    try:
        parsed = json.loads(rest)
    except (ValueError, RecursionError):
        parsed = None
    listed = parsed if isinstance(parsed, list) else [parsed]
    calls: list[object] = []
    for one in listed:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise written.unexpected('the call of a tool as JSON, {"name": ..., "arguments": {...}}')
        arguments = structured(written.at("arguments", one.get("arguments", one.get("parameters"))))
        calls.append({"type": "function", "function": {"name": one["name"], "arguments": arguments}})
    if not calls:
        raise written.unexpected("at least one call of a tool")
    return thought + mark, calls


def joined(before: Message, call: Message) -> Message:
    """A turn of the assistant with a further call of a tool."""
    calls = [*as_list(before.extra.get("tool_calls")), *as_list(call.extra["tool_calls"])]
    return Message(
        "assistant", before.content + call.content, {**before.extra, **call.extra, "tool_calls": calls}
    )


def as_list(value: object) -> list[object]:
    """The value if it is a list, otherwise an empty one."""
    return value if isinstance(value, list) else []


def turn_in(dialect: Dialect) -> Callable[[Field, Content], Content]:
    """One turn, or its text, as a response to the prompt; refused where it is not a turn of the assistant."""

    def read(given: Field, prompt: Content) -> Content:
        if isinstance(given.value, str):
            return as_response(given.value, prompt, given)
        _, message = turn(given, dialect)
        if message.role != "assistant":
            raise given.unexpected("a turn of the assistant: a side is a response")
        return (message,)

    return read


def rounds(speakers: Mapping[str, str], reply: str) -> Callable[[Field, str], tuple[Message, ...]]:
    """Rounds, objects of a question and an answer each, as turns.

    Args:
        speakers: keys of a round for what comes before the answer, the usual one first -> whose turn it is.
        reply: the key of the answer.
    """
    usual = next(iter(speakers))

    def read(row: Field, key: str) -> tuple[Message, ...]:
        made: list[Message] = []
        for one in row[key].objects(f'rounds {{"{usual}": ..., "{reply}": ...}}'):
            speaker = next((key for key in speakers if key in one), usual)
            made.append(Message(speakers[speaker], one[speaker].text()))
            made.append(Message("assistant", one[reply].text()))
        return tuple(made)

    return read


def history(row: Field) -> tuple[Message, ...]:
    """Earlier rounds, `[["Hello", "Hi"], ...]`; none where the key `history` is absent or null."""
    given = row.get("history")
    made: list[Message] = []
    for one in given.items("rounds") if given else ():
        if len(both := one.items("two texts")) != 2:
            raise one.unexpected("two texts: what was asked and what was answered")
        made += [Message("user", both[0].text()), Message("assistant", both[1].text())]
    return tuple(made)
