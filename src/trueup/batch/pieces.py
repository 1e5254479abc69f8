"""Token ids of text and of a conversation's pieces, and which of them are learned.

Text that a model sees in one go is encoded in one go: a prompt, a turn of the assistant, what stands between two
turns. Only where somebody spells a special token are the pieces encoded one by one, so that it stays text.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trueup.batch.chat import Piece
from trueup.feedback.records import Group

Row = tuple[list[int], list[bool]]
"""Token ids, and which of them are scored."""


class PieceEncoder:
    """Encodes text and pieces with one tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        end_ids: tokens that end a turn; the first is appended where a response does not end with one of them.
    """

    def __init__(self, tokenizer: Any, end_ids: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.end_ids = tuple(end_ids)
        self.special = special_texts(tokenizer)
        named = tokenizer.convert_ids_to_tokens(list(self.end_ids))
        self.ends = [re.escape(text) for text in named if text in self.special]
        self.lead = _lead(tokenizer)

    def prompt(self, pieces: Sequence[Piece]) -> list[int]:
        """Ids of a prompt, as at inference."""
        if any(self._spelled(piece) for piece in pieces):
            return [token for piece in pieces for token in self._tokens(piece)]
        text = "".join(piece.text for piece in pieces)
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def response(self, pieces: Sequence[Piece]) -> Row:
        """A response: the turns of the assistant are learned with their ends, what stands between them is not."""
        ids: list[int] = []
        scored: list[bool] = []

        def add(tokens: Sequence[int], learned: bool) -> None:
            ids.extend(tokens)
            scored.extend([learned] * len(tokens))

        turn: list[Piece] = []
        between: list[Piece] = []
        for number, piece in enumerate(pieces):
            if not piece.assistant:
                between.append(piece)
            elif piece.content or number == 0 or not pieces[number - 1].content:
                add(self._between(between), False)
                between = []
                turn.append(piece)
            else:  # the template's text that ends a turn and heads the next one
                if split := self._at_end(piece):
                    add(self._together([*turn, split[0]]), True)
                    between = [split[1]]
                else:
                    add(self._together(turn), True)
                    tokens, stop = self._ended_otherwise(piece, last=number + 1 == len(pieces))
                    add(tokens[:stop], True)
                    if stop:
                        add(tokens[stop:], False)
                    else:
                        between.append(piece)
                turn = []
        add(self._together(turn), True)
        if pieces and not pieces[-1].assistant:  # what follows the end of the last turn is never generated
            add(self._between(between), False)
        return self.end(ids, scored)

    def raw(self, text: str, *, literal: bool) -> list[int]:
        """Ids of text that stands in the middle of a sequence; `literal`: special tokens in it stay text.

        Some tokenizers put a space before whatever they encode; the text is then encoded after a line break,
        whose own tokens are taken off again.
        """
        keywords = {"add_special_tokens": False} | ({"split_special_tokens": True} if literal else {})
        if self.lead:
            ids = list(self.tokenizer("\n" + text, **keywords).input_ids)
            if ids[: len(self.lead)] == self.lead:
                return ids[len(self.lead) :]
        return list(self.tokenizer(text, **keywords).input_ids) if text else []

    def end(self, ids: list[int], scored: list[bool]) -> Row:
        """The response with a token that ends it, unless it has one."""
        if ids and ids[-1] in self.end_ids:
            return ids, scored
        return [*ids, self.end_ids[0]], [*scored, True]

    def _at_end(self, piece: Piece) -> tuple[Piece, Piece] | None:
        """A piece up to and with its first end of a turn, and from that end on; None where it has none."""
        for found in re.finditer("|".join(self.ends), piece.text) if self.ends else ():
            if not any(start < found.end() and found.start() < stop for start, stop in piece.spelled):
                return piece.before(found.end()), piece.after(found.start())
        return None

    def _ended_otherwise(self, piece: Piece, *, last: bool) -> tuple[list[int], int]:
        """Ids of the template's text after a turn that no special token ends, and how many of them end it.

        None do where it is only the next turn's heading; what follows the end of the last turn is left out.
        """
        tokens = self._tokens(piece)
        ended = next((place + 1 for place, token in enumerate(tokens) if token in self.end_ids), None)
        if last:
            return tokens[:ended], len(tokens)
        return tokens, ended or 0

    def _between(self, pieces: Sequence[Piece]) -> list[int]:
        """Ids of what stands between two turns, without the end of the first, which it may begin with."""
        ids = self._together(pieces)
        return ids[1:] if pieces and pieces[0].assistant and ids[0] in self.end_ids else ids

    def _together(self, pieces: Sequence[Piece]) -> list[int]:
        if any(self._spelled(piece) for piece in pieces):
            return [token for piece in pieces for token in self._tokens(piece)]
        return self.raw("".join(piece.text for piece in pieces), literal=False)

    def _tokens(self, piece: Piece) -> list[int]:
        """Ids of a piece by itself; what somebody wrote in it is text, whatever it spells."""
        if not piece.spelled:
            return self.raw(piece.text, literal=piece.content)
        ids: list[int] = []
        place = 0
        for start, stop in piece.spelled:
            ids += self.raw(piece.text[place:start], literal=False)
            ids += self.raw(piece.text[start:stop], literal=True)
            place = stop
        return ids + self.raw(piece.text[place:], literal=False)

    def _spelled(self, piece: Piece) -> bool:
        """Whether somebody, not the template, spells a special token in a piece."""
        return bool(piece.spelled) or (piece.content and spells(piece.text, self.special))


def _lead(tokenizer: Any) -> list[int]:
    """Ids of a line break, where encoding after it gives other ids than encoding alone; else nothing."""

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    alone, after, line = encode("a"), encode("\na"), encode("\n")
    return line if after[: len(line)] == line and after[len(line) :] != alone else []


def special_texts(tokenizer: Any) -> tuple[str, ...]:
    """How the special tokens of a tokenizer are spelled, in order."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted(text for text in {*tokenizer.all_special_tokens, *added} if text))


def spells(value: object, special: Sequence[str]) -> bool:
    """Whether a text, or any text or key in a JSON value, spells one of these special tokens."""
    if isinstance(value, str):
        return any(text in value for text in special)
    if isinstance(value, Mapping):
        return any(spells(key, special) or spells(one, special) for key, one in value.items())
    return isinstance(value, list | tuple) and any(spells(one, special) for one in value)


def contents_that_spell(group: Group[Any], special: Sequence[str]) -> int:
    """How many contents of a group spell special tokens.

    A prompt or response of raw text is one, and so is each message, with its further keys, and each tool. In a
    conversation they stay text; a raw prompt that spells one is taken as rendered beforehand.

    Args:
        special: see `special_texts`.
    """
    written: list[object] = list(group.prompt.tools)
    for content in (group.prompt.content, *group.responses):
        if isinstance(content, str):
            written.append(content)
        else:
            written += [(message.content, message.extra) for message in content]
    return sum(spells(one, special) for one in written)
