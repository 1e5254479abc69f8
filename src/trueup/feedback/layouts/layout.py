"""What a layout is: how to recognise its rows, and how to turn one into an example."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from trueup import files, words
from trueup.feedback import canonical, turns
from trueup.feedback.fields import Field
from trueup.feedback.records import Content, Discarded, Example, Message, Origin

TABLE = files.table_beside(__file__, "known.toml")
RowValue = Mapping[str, object]
Convert = Callable[[Field], Example | Discarded]

LABELS = ("label", "kto_tag", "is_desirable", "is_correct")
SCORES = ("score", "reward", "rating")
SIDES = ("chosen", "rejected")
JUDGEMENTS = (
    *(*LABELS, *SCORES, "labels", "scores", "rank", *SIDES, "rejected_response", "rejected_messages"),
    *("feedback", "thumb", "thumbs", "vote", "liked", "verdict", "winner", "preference", "is_safe"),
    "helpfulness",
)
"""Keys that judge a response: in a row that has one, it is not simply one to imitate."""
JUDGED = tuple(key for key in JUDGEMENTS if key != "label")
"""The same where `label` says something else."""
REQUEST = ("history", "context")
PROMPT_ANSWERED = "the prompt ends with a turn of the assistant"
TWICE = "differs from the system prompt with which the messages begin; keep one of them"


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which people write feedback down."""

    name: str
    keys: tuple[str, ...]
    meaning: str
    """One sentence: what a row is taken for."""
    convert: Convert
    """Row -> what it says, before the keys that mean the same in every layout: `system`, `source` and `tools`; raises
    InputError for a field that is missing, of the wrong type or out of range."""
    optional: tuple[str, ...] = ()
    """Further keys that are used where they are there; `system`, `source` and `tools` are read by `example`."""
    text: tuple[str, ...] = ()
    """Those of the keys whose value is text, or messages: a column of CSV is that even if it looks like numbers."""
    foreign: tuple[str, ...] = ()
    """Keys that make a row one of another layout."""
    named: Callable[[RowValue], Collection[str]] = lambda row: ()
    """Further keys of a row that are used, where whoever wrote the file chose their names."""
    fits: Callable[[RowValue], bool] = lambda row: True
    """What the values of a row must look like, where the keys alone do not tell."""
    request: tuple[str, ...] = ()
    """Keys that hold a part of what was asked and are not read here: a row in which one says something is refused."""
    further: bool = False
    """Whether a response may be one more turn after a turn of the assistant."""
    inside: str = ""
    """The key whose object may hold `tools`, as may the row itself."""
    not_kept: str = ""
    """What rows of this layout say within the keys that are used, and examples do not hold."""

    def recognises(self, row: RowValue) -> bool:
        keys_fit = all(key in row for key in self.keys) and not any(key in row for key in self.foreign)
        return keys_fit and bool(self.fits(row))

    def example(self, value: RowValue, origin: Origin) -> Example | Discarded:
        row = Field(value, origin)
        self._check_keys(row)
        draft = self.convert(row)
        if isinstance(draft, Discarded):
            return draft
        prompt, responses = draft.prompt.content, draft.responses
        if "source" in self.optional and (source := row.optional("source", Field.text)) is not None:
            responses = tuple(replace(one, source=source) for one in responses)
        if "system" in self.optional and "system" in row:
            responses = tuple(replace(one, content=turns.as_messages(one.content)) for one in responses)
            prompt = after_system((Message("user", prompt),) if isinstance(prompt, str) else prompt, row)
        with_keys = canonical.prompt_from(prompt, self._with_tools(row), self.optional)
        if turns.ends_with_assistant(prompt) and not self.further:
            return Discarded(PROMPT_ANSWERED)
        return Example(with_keys, responses, draft.comparisons, draft.votes)

    def _with_tools(self, row: Field) -> Field:
        if not self.inside:
            return row
        inner = row[self.inside].object()
        if not (own := row.value.get("tools")):
            return inner
        if inner.value.get("tools") not in (None, [], own):
            raise row["tools"].fault(f"differs from the tools of {self.inside!r}; keep one of them")
        return row

    def _check_keys(self, row: Field) -> None:
        taken = f"the file was taken for {self.name} from its first row; keep one layout in a file"
        for key in self.keys:
            row.needed(key, taken)
        for key in self.foreign:
            if key in row:
                another = "this key makes the row one of another layout"
                raise row.at(key).fault(f"{another}, but {taken}{remedy(key)}")
        for key in self.request:
            if row.value.get(key) not in (None, "", [], *(row.value[one] for one in self.keys)):
                unread = f"a part of what was asked, which {self.name} does not read"
                raise row.at(key).fault(f"{unread}; put it into {self.keys[0]!r}, or leave the key out")
        for key in self.keys:
            value = row.value[key]
            if isinstance(value, str) and turns.holds_messages(value):
                raise row.at(key).fault(f"found {turns.WRITTEN}")

    def unused(self, row: RowValue) -> list[str]:
        used = {*self.keys, *self.optional, *self.named(row)}
        return [key for key in row if key not in used]


def remedy(key: str) -> str:
    said = f"; {key!r} judges a response: rename the key or leave it out if it does not"
    return said if key in JUDGEMENTS else ""


def after_system(said: tuple[Message, ...], row: Field) -> tuple[Message, ...]:
    system = row.optional("system", Field.text)
    begun = bool(said) and said[0].role in ("system", "developer")
    if system and begun and said[0].content != system:
        raise row.at("system").fault(TWICE)
    return said if begun or not system else (Message("system", system), *said)


CALL = "call"
"""Stands among the roles of a dialect for a turn of the assistant that calls a tool, written as JSON."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a format writes a turn: `{"from": "human", "value": "Hello"}`."""

    keys: Sequence[tuple[str, str]]
    """The keys for who speaks and what is said; a turn is read by the first pair that it has, else of which it has the
    first."""
    roles: Mapping[str, Sequence[str]]
    """Our role, or `CALL` -> its names, in lower case."""
    content: Callable[[Field], str] = turns.spoken


DIALECTS = {name: Dialect(**told) for name, told in TABLE["dialects"].items()}


def turns_in(dialect: Dialect) -> Callable[[Field, str], tuple[Message, ...]]:
    """Reads messages; a call that directly follows a turn of the assistant is made part of it."""

    def read(row: Field, key: str) -> tuple[Message, ...]:
        made: list[Message] = []
        for one in row[key].items("turns"):
            role, message = turn(one, dialect)
            if role == CALL and made and made[-1].role == "assistant":
                made[-1] = joined(made[-1], message)
            else:
                made.append(message)
        return tuple(made)

    return read


def turn(row: Field, dialect: Dialect) -> tuple[str, Message]:
    """One turn as a message, and its role in the dialect; keys that mean nothing here go to `extra`."""
    row.object()
    speaker, said = max(dialect.keys, key=lambda pair: (pair[0] in row) + (pair[0] in row and pair[1] in row))
    name = row[speaker].text()
    role = next((ours for ours, names in dialect.roles.items() if name.lower() in names), None)
    if role is None:
        known = [name for names in dialect.roles.values() for name in names]
        hint = words.did_you_mean(name.lower(), known, quoted=True)
        raise row[speaker].unexpected(f"one of {', '.join(known)}{hint}")
    turns.check_weights(row.value, row)
    # Null is not worth keeping, nor a loss that is not switched off.
    more = {key: one for key, one in row.value.items() if one is not None and key not in (speaker, said)}
    kept = {key: one for key, one in more.items() if turns.NOT_LEARNED.get(key, one) == one}
    extra = turns.with_calls(kept, row)
    if row.get(said) is None and extra.get("tool_calls"):
        return role, Message(role, "", extra)
    if role == CALL:
        thought, calls = called(row[said])
        return role, Message("assistant", thought, {**extra, "tool_calls": calls})
    return role, Message(role, dialect.content(row[said]), extra)


def called(written: Field) -> tuple[str, list[object]]:
    """What is thought before a call, and the calls, of which `{"name": "add", "arguments": {"a": 1}}` is one."""
    thought, mark, rest = written.text().rpartition("</think>")
    try:
        parsed = json.loads(rest)
    except (ValueError, RecursionError):
        parsed = None
    calls: list[object] = []
    for one in parsed if isinstance(parsed, list) else [parsed]:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise written.unexpected('the call of a tool as JSON, {"name": ..., "arguments": {...}}')
        arguments = turns.structured(written.at("arguments", one.get("arguments", one.get("parameters"))))
        calls.append({"type": "function", "function": {"name": one["name"], "arguments": arguments}})
    if not calls:
        raise written.unexpected("at least one call of a tool")
    return thought + mark, calls


def joined(before: Message, call: Message) -> Message:
    known, more = before.extra.get("tool_calls"), call.extra["tool_calls"]
    assert isinstance(more, list)  # as `called` gives them
    extra = {**before.extra, **call.extra, "tool_calls": [*(known if isinstance(known, list) else ()), *more]}
    return Message("assistant", before.content + call.content, extra)


def turn_in(dialect: Dialect) -> Callable[[Field, Content], Content]:
    """One turn, or its text, as a response to the prompt; refused where it is not a turn of the assistant."""

    def read(given: Field, prompt: Content) -> Content:
        if isinstance(given.value, str):
            return turns.as_response(given.value, prompt, given)
        _, message = turn(given, dialect)
        if message.role != "assistant":
            raise given.unexpected("a turn of the assistant: a side is a response")
        return (message,)

    return read


def rounds(speakers: Mapping[str, str], reply: str) -> Callable[[Field, str], tuple[Message, ...]]:
    """Rounds, objects of a question and an answer each, as turns; `speakers`: key of a question -> whose it is."""
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
    made: list[Message] = []
    for one in given.items("rounds") if (given := row.get("history")) else ():
        if len(both := one.items("two texts")) != 2:
            raise one.unexpected("two texts: what was asked and what was answered")
        made += [Message("user", both[0].text()), Message("assistant", both[1].text())]
    return tuple(made)
