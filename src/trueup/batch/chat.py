"""Conversations cut where the assistant begins and ends to speak.
A turn begins where the template asks for it, and ends where the template ends a conversation there. Every text is a
rendering of the real messages; what cannot be told exactly is refused
(docs/decisions/0014-what-a-template-writes.md)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trueup.batch.chat_template import CALL, CONTENT, REASONING, REMEDY, SPELLED, Template, Text, Written
from trueup.errors import InputError
from trueup.feedback.records import Message, Tools
from trueup.feedback.turns import is_learned

UNREAD = (
    "the chat template knows no reasoning, so that what messages have of it under a key is not learned; to learn it, "
    "write it into the contents"
)


class OpeningError(InputError):
    """A conversation does not begin as its template asks for an answer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of the assistant, and what stands between it and the next one."""

    text: Text  # from where the model begins to speak to where it does again
    stop: int  # where in the text the template ends the turn
    learned: bool
    said: int | None  # where in the text the last known of what the message says stands


@dataclass(frozen=True, slots=True)
class Rendered:
    prompt: Text
    turns: tuple[Turn, ...]
    note: str | None = None
    """Something the user should know of this template, the same text for every example it concerns."""


def render_prompt(template: Template, prompt: Sequence[Message], tools: Tools = ()) -> Text:
    """The prompt as a model is given it at inference, up to where it begins to speak."""
    messages = template.ended_once(prompt)
    written = template.written(messages, tools, ask=True)
    _refuse_left_out(written, messages)
    return written.text


def conversation_prompt(template: Template, prompt: Sequence[Message], tools: Tools = ()) -> Text:
    """The prompt as the template writes it before an answer without a thought."""
    found = template.written([*template.ended_once(prompt), Message("assistant", "x")], tools, ask=False)
    places = found.places(len(prompt), CONTENT)
    if not places:
        raise InputError(f"where the chat template begins an answer cannot be told; {REMEDY}")
    return found.text.part(0, places[0])


def render(
    template: Template, prompt: Sequence[Message], response: Sequence[Message], opening: Text,
    tools: Tools = (), *, as_written: bool = False,
) -> Rendered:  # fmt: skip
    """Render prompt and response together, and cut them where the assistant begins and ends to speak.
    `as_written`: a later turn that does not begin as it is asked for may begin as `conversation_prompt` has it.
    OpeningError: the conversation does not begin as the model is asked."""
    messages = template.ended_once([*prompt, *response])
    full = template.written(messages, tools, ask=False)
    begins = full.text.text.startswith(opening.text)
    if not begins and (opened := _opened(messages[len(prompt)], opening.text)):
        messages[len(prompt)] = opened
        full = template.written(messages, tools, ask=False)
    text = full.text.text
    speaking = [at for at in range(len(prompt), len(messages)) if messages[at].role == "assistant"]
    starts = []
    for number in speaking:
        before = opening.text if number == speaking[0] else template.write(messages[:number], tools, ask=True)
        if as_written and number > speaking[0] and not text.startswith(before):
            before = conversation_prompt(template, messages[:number], tools).text
        if not text.startswith(before):
            raise OpeningError(_differs(before, text, last=number == speaking[-1]))
        starts.append(len(before))
    _refuse_left_out(full, messages)
    turns = []
    for number, start, following in zip(speaking, starts, [*starts[1:], len(text)], strict=True):
        said, learned = _said(full, number, start, following), is_learned(messages[number])
        if learned:
            _refuse_unlearned(template, full, number)
        stop = following
        if number != speaking[-1]:
            stop = _stop(template, messages[: number + 1], len(prompt), tools, text[:following], said)
        _check(full, number, start, stop)
        known = None if said is None else said - start
        turns.append(Turn(full.text.part(start, following), stop - start, learned, known))
    unread = not template.knows_reasoning and any(REASONING in full.marks.get(one, ()) for one in speaking)
    return Rendered(opening, tuple(turns), UNREAD if unread else None)


def _opened(message: Message, opening: str) -> Message | None:
    """The message with the thought opened that the model is asked with; None where it does not close it."""
    found = re.search(r"<([\w:]+)>\s*$", opening)
    if found is None:
        return None
    before, closed, _ = message.content.partition(f"</{found[1]}>")
    goes_on = closed and f"<{found[1]}>" not in before
    return replace(message, content=found[0] + message.content) if goes_on else None


def leaves_out_tools(template: Template, prompt: Sequence[Message], tools: Tools) -> bool:
    return template.write(prompt, tools, ask=True) == template.write(prompt, (), ask=True)


def _refuse_left_out(written: Written, messages: Sequence[Message]) -> None:
    for number, message in enumerate(messages):
        marks = written.marks.get(number, {}).get(CONTENT, ())
        if marks and not any(marks):
            raise InputError(
                f"the chat template leaves out what message {number + 1} ({message.role}) says. Mend the row, or "
                f"{REMEDY}"
            )


def _said(full: Written, number: int, start: int, stop: int) -> int | None:
    """The last place between two where a message says something new; None where none is known."""
    marks = [one for part, some in full.marks.get(number, {}).items() if part != SPELLED for one in some]
    firsts = [[place for place in places if start <= place <= stop][:1] for places in marks]
    return max((place for places in firsts for place in places), default=None)


def _stop(
    template: Template, messages: Sequence[Message], prompt: int, tools: Tools, text: str, said: int | None
) -> int:
    """Where a turn ends that others follow.
    Where the conversation up to the turn is how the longer one begins, it ends there, also where it is asked to go on
    and others than the assistant do: a template may end a turn only where others follow. So it does without an end of
    sequence that closes every conversation, if what follows a turn begins with different tokens. Where the template
    writes the turn otherwise once others follow, what comes after the last of its words (`said`) is how the shorter
    conversation ends, or how it ends where an answer is to follow; or the turn ends with the end of sequence that is
    written whatever follows."""
    ended, more = (template.write(messages, tools, ask=ask) for ask in (False, True))
    begins = [one for one in (ended, more) if text.startswith(one) and (one != text or one == ended)]
    if begins:
        return max(map(len, begins))
    before, heading = (template.write(messages[:prompt], tools, ask=ask) for ask in (False, True))
    heading = heading.removeprefix(before) if heading.startswith(before) else ""
    closing = str(template.tokenizer.eos_token)
    stop = len(ended.removesuffix(closing))
    after = {one[0] for given in (text, more) if (one := template.special_pattern.match(given, stop))}
    if before.endswith(closing) and text[:stop] == more[:stop] == ended[:stop] and len(after) > 1:
        return stop
    if said is not None:
        for ask in (False, True):
            shorter = template.written(messages, tools, ask=ask)
            words = _said(shorter, len(messages) - 1, 0, len(shorter.text.text))
            end = shorter.text.text[words:].removesuffix(heading if ask else "")
            if words is not None and end and text.startswith(end, said):
                return said + len(end)
        always, found, _ = text[said : _same(text, more)].partition(closing)
        if found:
            return said + len(always + closing)
    raise InputError(
        f"the chat template writes message {len(messages)} (assistant) otherwise where others follow, so that its end "
        f"cannot be told. Learn the last turn alone, or {REMEDY}"
    )


def _same(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _refuse_unlearned(template: Template, full: Written, number: int) -> None:
    for part, marks in full.marks.get(number, {}).items():
        known = part in (CONTENT, CALL) or (part == REASONING and template.knows_reasoning)
        if known and not all(marks):
            raise InputError(
                f"the chat template leaves out {part} of message {number + 1} (assistant), which is to be learned. "
                f"Take it out of the row, or {REMEDY}"
            )


def _check(full: Written, number: int, start: int, stop: int) -> None:
    """Refuse a turn whose message stands elsewhere too, or that holds what another one says."""
    name = f"message {number + 1} (assistant)"
    for part, marks in full.marks.get(number, {}).items():
        if any(marks) and not any(start <= place <= stop for place in full.places(number, part)):
            raise InputError(
                f"the chat template writes what {name} says elsewhere than in its turn. Mend the row, or {REMEDY}"
            )
    others = (place for other in full.marks if other != number for place in full.places(other, CONTENT))
    if any(start < place < stop for place in others):
        raise InputError(f"the chat template writes what others say within {name}. Mend the row, or {REMEDY}")


def _differs(opening: str, text: str, *, last: bool) -> str:
    """Why an answer cannot be learned whose conversation does not begin as the model is asked."""
    same = _same(opening, text)
    shown = [repr(one[max(0, same - 20) : same + 20]) for one in (opening, text)]
    as_it_is = "learn it as the conversation has it, with --answer-opening conversation"
    other = as_it_is if last else "learn the last turn alone"
    return (
        f"the chat template asks for an answer with ...{shown[0]} but writes the conversation with ...{shown[1]}, so "
        f"that the model would learn what it is not asked. Give the row what is asked for, {other}, or {REMEDY}"
    )
