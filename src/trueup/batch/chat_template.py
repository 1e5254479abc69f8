"""What a chat template writes of a conversation, and where in it stands what the messages say.
Where words stand is told by marks, characters put into the messages. A rendering with marks is believed only where
without them it is the real one to the letter (docs/decisions/0014-what-a-template-writes.md)."""

import datetime
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from trueup.errors import InputError
from trueup.feedback.records import Message, Tools

FIRST_MARK = 0x100000
MARK = re.compile("[\U00100000-\U0010fffd]")  # private-use characters that no known font has a sign for
SPELLED, CONTENT, CALL, REASONING = "a special token", "the content", "a call", "the reasoning"
"""Parts of a message: any text that spells a special token; what is said, called and thought."""
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")  # keys for what the assistant thought before it spoke
THOUGHT = r"</?[\w:]*(?:think|thought|reason)[\w:]*>|\[/?THINK\]"
"""What sets a thought apart within a content; a template may take the content apart there."""
DIRECTIVES = "aAbBcdDeFGHIjklmMnpPrRsStTuUVwWxXyYzZ%"
DATED = "strftime_now"  # what a template calls that writes today's date
STRFTIME_NOW = (
    "{%%- macro strftime_now(form) -%%}{%%- set day = %s -%%}{%%- set at = namespace(open='') -%%}"
    "{%%- for c in form -%%}{%%- if at.open == '%%' and c == '-' -%%}{%%- set at.open = '%%-' -%%}"
    "{%%- elif at.open -%%}{{ day[at.open ~ c] }}{%%- set at.open = '' -%%}"
    "{%%- elif c == '%%' -%%}{%%- set at.open = c -%%}{%%- else -%%}{{ c }}{%%- endif -%%}"
    "{%%- endfor -%%}{%%- endmacro %%}\n"  # the library leaves out the line break after a block
)
CALL_ID = 9  # letters and digits of a call's id where a template insists on a length: Mistral's
REMEDY = "give another template with --chat-template FILE"
Rows = list[dict[str, Any]]
Slot = tuple[int, str, str]
"""Where a mark may be put: the number of a message, or -1 for the tools; which part of it; the special token there."""


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    literal: tuple[tuple[int, int], ...] = ()  # where a message, not the template, spells a special token

    def part(self, start: int, stop: int) -> "Text":
        inside = ((at - start, end - start) for at, end in self.literal if start <= at and end <= stop)
        return Text(self.text[start:stop], tuple(inside))

    def between(self, start: int, stop: int) -> tuple[str, bool]:
        """The text from a place to another, and whether a message spells a special token there."""
        return self.text[start:stop], any(start <= one < stop for one, _ in self.literal)


@dataclass(frozen=True, slots=True)
class Written:
    """A rendering, and where in it is what the messages say."""

    text: Text
    marks: Mapping[int, Mapping[str, Sequence[Sequence[int]]]]
    """Message, -1 for the tools -> part of it -> where each of its marks comes out: nowhere where the template leaves
    it out. A mark is missing where the template would write something else because of it."""

    def places(self, number: int, part: str) -> list[int]:
        return sorted(place for places in self.marks.get(number, {}).get(part, ()) for place in places)


def today() -> str:
    return datetime.date.today().isoformat()


@dataclass(frozen=True)
class Template:
    """The chat template of a tokenizer, whose special tokens are `special`; `date` is what it writes for today."""

    tokenizer: Any
    special: tuple[str, ...] = ()
    date: str = field(default_factory=today)

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        """Any special token, the longest first: one may be a part of another."""
        return re.compile("|".join(map(re.escape, sorted(self.special, key=len, reverse=True))) or "(?!)")

    @cached_property
    def knows_reasoning(self) -> bool:
        """Whether the template reads what was thought from a key of its own."""
        code = re.sub("{#.*?#}", "", str(self.tokenizer.chat_template), flags=re.DOTALL)
        names = "|".join(REASONING_KEYS)
        return re.search(rf"""\.({names})\b|(['"])({names})\2""", code) is not None

    @cached_property
    def always_asks(self) -> bool:
        """Whether every conversation ends with the heading of an answer, also where none is asked for."""
        user = Message("user", "x")
        try:
            asks = self.write([user], (), ask=False).rstrip()
            both = (Message("assistant", "x"), user)
            answered, goes_on = (self.write([user, one], (), ask=False) for one in both)
        except InputError:
            return False
        return answered.startswith(asks) and not goes_on.startswith(asks)

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        """Texts of the tokens that end a turn: the tokenizer's end of sequence, and those that the template writes."""
        mark = chr(FIRST_MARK)
        try:
            written = self.write([Message("user", "x"), Message("assistant", mark)], (), ask=False)
        except InputError:
            written = ""
        found = self.special_pattern.findall(written.partition(mark)[2])
        return tuple(end for end in (self.tokenizer.eos_token, *found) if end)

    def ended_once(self, messages: Sequence[Message]) -> list[Message]:
        """The messages without the text of a token that ends a turn where one of the assistant's ends with it."""
        made = []
        for message in messages:
            text = message.content.rstrip()
            end = next((end for end in self._ends if text.endswith(end)), "")
            ends_twice = message.role == "assistant" and end
            made.append(replace(message, content=text.removesuffix(end)) if ends_twice else message)
        return made

    def write(self, messages: Sequence[Message], tools: Tools, *, ask: bool) -> str:
        """What the library renders, with the heading of an answer at the end where it is to `ask`."""
        first: Exception | None = None
        for form in FORMS:
            rows: Rows = [{"role": one.role, "content": one.content, **one.extra} for one in messages]
            if self._takes_parts:
                rows = [row | {"content": [{"type": "text", "text": row["content"]}]} for row in rows]
            try:
                text = self._apply(form(rows), tools, ask)
            except Exception as error:  # a template is its author's program, and may raise anything
                first = first or error
                continue
            if not _prints_python(text, messages):
                return text
            first = first or ValueError("it writes the arguments of a call as Python prints them")
        roles = ", ".join(message.role for message in messages)
        why = str(first) or type(first).__name__
        raise InputError(
            f"the chat template refuses a conversation of {roles}: {why}. Mend the row, or {REMEDY}"
        ) from first

    def _apply(self, rows: Rows, tools: Tools, ask: bool) -> str:
        declared = [dict(tool) for tool in tools] or None
        options: dict[str, Any] = {"tools": declared, "tokenize": False, "add_generation_prompt": ask}
        if writes_date(self.tokenizer):
            options["chat_template"] = with_date(self.tokenizer.get_chat_template(tools=declared), self.date)
        return str(self.tokenizer.apply_chat_template(rows, **options))

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether the template writes a content that is a list of parts, and not one that is a text."""
        mark = chr(FIRST_MARK)
        try:
            if mark in self._apply([{"role": "user", "content": mark}], (), False):
                return False
            parts = [{"type": "text", "text": mark}]
            return mark in self._apply([{"role": "user", "content": parts}], (), False)
        except Exception:  # as above
            return False

    def written(self, messages: Sequence[Message], tools: Tools, *, ask: bool) -> Written:
        """The same, and where in it is what the messages say."""
        text = self.write(messages, tools, ask=ask)
        if used := MARK.search(text):
            raise InputError(
                f"a message or a tool holds the private-use character U+{ord(used[0]):X}; those from U+100000 on mark "
                "where words stand in what a chat template writes. Take it out of the row"
            )
        slots = _Marking(self.special_pattern).apply(messages, tools)[2]
        found: dict[int, list[int]] = {}

        def look(numbers: Sequence[int]) -> None:
            places = self._places(messages, tools, ask, text, frozenset(numbers))
            if places is not None:
                found.update({number: places.get(number, []) for number in numbers})
            elif len(numbers) > 1:
                look(numbers[: len(numbers) // 2])
                look(numbers[len(numbers) // 2 :])

        look(range(len(slots)))
        marks: dict[int, dict[str, list[list[int]]]] = {}
        for number, (owner, part, token) in enumerate(slots):
            if number in found:
                marks.setdefault(owner, {}).setdefault(part, []).append(found[number])
            elif part == SPELLED and (owner < 0 or messages[owner].role != "assistant"):
                raise InputError(
                    f"a message or a tool spells the special token {token}, and the chat template looks for it "
                    f"there, so that it cannot be kept text. Leave it out of the row, or {REMEDY}"
                )
        inside = sorted(place for places in found.values() for place in places)
        literal = (
            one.span()
            for one in self.special_pattern.finditer(text)
            if bisect_right(inside, one.start()) < bisect_left(inside, one.end())
        )
        return Written(Text(text, tuple(literal)), marks)

    def _places(
        self, messages: Sequence[Message], tools: Tools, ask: bool, text: str, chosen: frozenset[int]
    ) -> dict[int, list[int]] | None:
        """Slot -> where its mark comes out; None where the template writes something else because of the marks."""
        shown, declared, _ = _Marking(self.special_pattern, chosen).apply(messages, tools)
        try:
            rendered = self.write(shown, declared, ask=ask)
        except InputError:
            return None
        if MARK.sub("", rendered) != text:
            return None
        places: dict[int, list[int]] = {}
        for number, found in enumerate(MARK.finditer(rendered)):
            places.setdefault(ord(found[0]) - FIRST_MARK, []).append(found.start() - number)
        return places


class _Marking:
    """Puts marks around what is said, and into every special token that is spelled; those of `chosen` slots alone."""

    def __init__(self, special: re.Pattern[str], chosen: frozenset[int] = frozenset()) -> None:
        self.special, self.chosen = special, chosen
        self.slots: list[Slot] = []

    def apply(self, messages: Sequence[Message], tools: Tools) -> tuple[list[Message], Tools, list[Slot]]:
        shown = [self._message(number, message) for number, message in enumerate(messages)]
        return shown, tuple(self._value(tool, -1) for tool in tools), self.slots

    def _message(self, number: int, message: Message) -> Message:
        parts = {"tool_calls": CALL, **dict.fromkeys(REASONING_KEYS, REASONING)}
        extra = {
            self._text(key, number): self._value(value, number, parts.get(key, SPELLED))
            for key, value in message.extra.items()
        }
        return replace(message, content=self._text(message.content, number, CONTENT), extra=extra)

    def _value(self, value: Any, owner: int, part: str = SPELLED) -> Any:
        """A JSON value with every text in it marked; of keys, those of arguments, and special tokens in others."""
        if isinstance(value, Mapping):
            made = {}
            for key, one in value.items():
                known = part == CALL and key in ("id", "type", "function", "name", "arguments")
                inner = SPELLED if known and key in ("id", "type") else part
                made[self._text(key, owner, SPELLED if known else part)] = self._value(one, owner, inner)
            return made
        if isinstance(value, list | tuple):
            return [self._value(one, owner, part) for one in value]
        return self._text(value, owner, part) if isinstance(value, str) else value

    def _text(self, text: str, owner: int, part: str = SPELLED) -> str:
        found = [(one.start() + 1, SPELLED, one[0]) for one in self.special.finditer(text)]
        if part != SPELLED:
            apart = re.compile(f"{THOUGHT}|{self.special.pattern}")
            ends = [0, *(end for one in apart.finditer(text) for end in one.span()), len(text)]
            for start, stop in zip(ends[::2], ends[1::2], strict=True):
                if piece := text[start:stop].strip():
                    first = text.index(piece, start)
                    found += [(first, part, ""), (first + len(piece), part, "")]
        made, before = [], 0
        for place, what, token in sorted(found):
            mark = chr(FIRST_MARK + len(self.slots)) if len(self.slots) in self.chosen else ""
            made += [text[before:place], mark]
            before = place
            self.slots.append((owner, what, token))
        return "".join([*made, text[before:]])


def _prints_python(text: str, messages: Sequence[Message]) -> bool:
    """Whether a template writes the arguments of a call as Python prints an object."""
    for message in messages:
        calls = message.extra.get("tool_calls")
        for call in calls if isinstance(calls, list | tuple) else ():
            function = call.get("function", call) if isinstance(call, Mapping) else None
            given = function.get("arguments") if isinstance(function, Mapping) else None
            if isinstance(given, dict) and given and str(given) in text:
                return not any(str(given) in one.content for one in messages)
    return False


def writes_date(tokenizer: Any) -> bool:
    return DATED in str(tokenizer.chat_template)


def with_date(template: str, date: str) -> str:
    """A chat template that writes this date where it would write today's.
    transformers gives its own function to templates and hands over no other, so the template begins with a macro of
    that name, which knows what every directive stands for."""
    at = datetime.datetime.fromisoformat(date)
    forms = [f"%{dash}{letter}" for dash in ("", "-") for letter in DIRECTIVES]
    return STRFTIME_NOW % json.dumps({form: at.strftime(form) for form in forms}) + template


def text_arguments(rows: Rows) -> Rows:
    """Arguments as JSON text, as DeepSeek's templates and chat endpoints take them."""
    made = deepcopy(rows)
    for row in made:
        for call in row.get("tool_calls") or ():
            function = call.get("function", call)
            if not isinstance(function.get("arguments", ""), str):
                function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return made


def _fitted_ids(rows: Rows) -> Rows:
    """Ids of calls as Mistral's templates insist on them; a result without one answers the first call left."""
    ids: dict[object, str] = {}
    waiting: list[str] = []
    made = deepcopy(rows)
    for row in made:
        for call in row.get("tool_calls") or ():
            call["id"] = ids.setdefault(call.get("id") or object(), f"{len(ids) + 1:0{CALL_ID}d}")
            waiting.append(call["id"])
        if row["role"] == "tool" and waiting:
            row["tool_call_id"] = ids.get(row.get("tool_call_id"), waiting[0])
            waiting = [one for one in waiting if one != row["tool_call_id"]]
    return made


FORMS: tuple[Callable[[Rows], Rows], ...] = (
    lambda rows: rows,
    text_arguments,
    _fitted_ids,
    lambda rows: _fitted_ids(text_arguments(rows)),
)
"""How the calls of a conversation may be given to a template; the first that it takes is used."""
