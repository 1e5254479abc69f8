"""Text in the middle of a sequence as token ids: prompts, and turns of the assistant with what stands between them.
Text that a model sees in one go is encoded in one go: a prompt, a turn of the assistant, what stands between two turns.
Only where a message spells a special token is it cut at the template's own ones, so that what is spelled stays text."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from trueup import errors, words
from trueup.batch import chat, chat_template
from trueup.feedback.records import Content

Row = tuple[list[int], list[bool]]


class PieceEncoder:
    """Encodes text, prompts and turns with one tokenizer; the first of `end_ids` is appended where none ends a turn."""

    def __init__(self, tokenizer: Any, end_ids: Sequence[int], date: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.end_ids = tuple(end_ids)
        self.special = special_texts(tokenizer)
        self.ends = {text for text in map(self._shown, self.end_ids) if text in self.special}
        self.template = chat_template.Template(tokenizer, self.special, date or chat_template.today())
        self.lead = _lead(tokenizer)

    def prompt(self, opening: chat_template.Text) -> list[int]:
        if opening.literal:
            return self._ids(opening)
        return list(self.tokenizer(opening.text, add_special_tokens=False).input_ids)

    def response(self, turns: Sequence[chat.Turn]) -> Row:
        """A response: the turns of the assistant are learned with their ends, what stands between them is not."""
        ids: list[int] = []
        scored: list[bool] = []
        for number, turn in enumerate(turns):
            last = number + 1 == len(turns)
            stop = self._end(turn, last=last)
            said = self._ids(turn.text.part(0, stop))
            between = [] if last else self._from(turn.text, stop)
            ids += said + between
            scored += [turn.learned] * len(said) + [False] * len(between)
        return self.end(ids, scored)

    def raw(self, text: str, *, literal: bool) -> list[int]:
        """Ids of text in the middle of a sequence; `literal`: special tokens in it stay text.
        Some tokenizers put a space before whatever they encode; the text goes after a line break then, which is cut."""
        keywords = {"add_special_tokens": False} | ({"split_special_tokens": True} if literal else {})
        if self.lead:
            ids = list(self.tokenizer("\n" + text, **keywords).input_ids)
            if ids[: len(self.lead)] == self.lead:
                return ids[len(self.lead) :]
        return list(self.tokenizer(text, **keywords).input_ids) if text else []

    def end(self, ids: list[int], scored: list[bool]) -> Row:
        if ids and ids[-1] in self.end_ids:
            return ids, scored
        return [*ids, self.end_ids[0]], [*scored, True]

    def _end(self, turn: chat.Turn, *, last: bool) -> int:
        """Where a turn ends: with the first token of the model's ends after all that it says.
        Without one, where all that the template ends the turn with does, or at the next heading's first token."""
        text, least = turn.text.text, turn.said
        ends = [one.end() for one in self._own(turn.text) if one[0] in self.ends and one.end() <= turn.stop]
        if least is None and ends:
            return ends[-1]
        if later := [end for end in ends if least is not None and end > least]:
            return later[0]
        if last and self.template.always_asks:
            raise errors.InputError(
                "the chat template ends a conversation with the heading of another answer, and writes none of the "
                f"model's ends before it. Give the token that ends a turn with --eos-token, or {chat_template.REMEDY}"
            )
        if last:
            return len(text)
        stop = max(len(text[: turn.stop].rstrip()), least or 0)
        shown = filter(None, map(self._shown, self.end_ids))
        named = next((one for one in shown if text.startswith(one, stop)), "")
        ends_so = named and self.raw(text[stop:], literal=False)[0] in self.end_ids
        return stop + len(named) if ends_so else stop

    def _from(self, text: chat_template.Text, start: int) -> list[int]:
        """Ids of what follows a place, read with a special token before it: some take white space with them."""
        before = next((one for one in self._own(text) if one.end() == start), None)
        ids = self._ids(text.part(before.start() if before else start, len(text.text)))
        return ids[1:] if before and self._shown(ids[0]) == before[0] else ids

    def _ids(self, text: chat_template.Text) -> list[int]:
        """Ids of text in the middle of a sequence; a special token that a message spells is text."""
        runs: list[tuple[str, bool]] = []
        place = 0
        for one in self._own(text) if text.literal else ():
            runs += [text.between(place, one.start()), (one[0], False)]
            place = one.end()
        runs.append(text.between(place, len(text.text)))
        ids: list[int] = []
        for literal, some in groupby(runs, lambda run: run[1]):
            ids += self.raw("".join(run for run, _ in some), literal=literal)
        return ids

    def _own(self, text: chat_template.Text) -> list[re.Match[str]]:
        """The template's own special tokens in a text."""
        spelled = {start for start, _ in text.literal}
        found = self.template.special_pattern.finditer(text.text)
        return [one for one in found if one.start() not in spelled]

    def _shown(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))


def _lead(tokenizer: Any) -> list[int]:
    """Ids of a line break, where encoding after it gives other ids than encoding alone; else nothing."""

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    alone, after, line = encode("a"), encode("\na"), encode("\n")
    return line if after[: len(line)] == line and after[len(line) :] != alone else []


def special_texts(tokenizer: Any) -> tuple[str, ...]:
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted(text for text in {*tokenizer.all_special_tokens, *added} if text))


def spells(value: object, special: Sequence[str]) -> bool:
    """Whether a text, or any text or key in a JSON value, spells one of these special tokens."""
    if isinstance(value, str):
        return any(text in value for text in special)
    if isinstance(value, Mapping):
        return any(spells(key, special) or spells(one, special) for key, one in value.items())
    return isinstance(value, list | tuple) and any(spells(one, special) for one in value)


EXCERPT = 30


def contents(given: Content) -> list[str]:
    return [given] if isinstance(given, str) else [one.content for one in given]


def detokenized(ids: Sequence[int], tokenizer: Any) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def squeezed(text: str) -> str:
    return "".join(text.casefold().split())


def dropped(text: str, kept: str) -> str:
    """The visible characters that are oftener in one text than in what became of it, each once, in order.
    White space, case, accents and other forms do not count, nor what as many other characters stand for."""
    if squeezed(text) in squeezed(kept):
        return ""
    before, after = _folded(text), _folded(kept)
    less = {one: before.count(one) - after.count(one) for one in dict.fromkeys(before)}
    more = sum(max(0, after.count(one) - before.count(one)) for one in set(after))
    gone = {one: number for one, number in less.items() if number > 0 and one.isprintable()}
    return "".join(gone) if sum(gone.values()) > more else ""


def _folded(text: str) -> str:
    folded = squeezed(text if text.isascii() else unicodedata.normalize("NFKD", text))
    return folded if folded.isascii() else "".join(one for one in folded if not unicodedata.combining(one))


def lost_of(given: Content, ids: Sequence[int], tokenizer: Any, ends: Sequence[int]) -> str:
    """What the ids of a prompt or a response do not hold: the characters, and an excerpt; else empty."""
    full = detokenized(_bare(ids, tokenizer.bos_token_id, ends), tokenizer)
    for text in contents(given):
        kept = full
        if not isinstance(given, str) and squeezed(text) not in squeezed(full):
            # The template's own text would hide what is lost, or seem to stand for it.
            kept = detokenized(tokenizer(text, add_special_tokens=False).input_ids, tokenizer)
        end, begin = tokenizer.eos_token, tokenizer.bos_token
        while end and text.endswith(end):
            text = text.removesuffix(end)
        while begin and text.startswith(begin):
            text = text.removeprefix(begin)
        if gone := dropped(text, kept):
            return f"drops {words.shortened(gone, 12)} of {words.shortened(around(text, gone), EXCERPT)}"
    return ""


def _bare(ids: Sequence[int], begin: int | None, ends: Sequence[int]) -> list[int]:
    """The ids without those that begin and end a sequence."""
    kept = [int(one) for one in ids]
    while kept and kept[-1] in ends:
        kept.pop()
    while kept and kept[0] == begin:
        kept.pop(0)
    return kept


def around(text: str, gone: str) -> str:
    places = (at for at, one in enumerate(text) if set(_folded(one)) & set(gone))
    start = max(0, next(places, 0) - EXCERPT // 2)
    return text[start : start + EXCERPT]
