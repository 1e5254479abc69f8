"""From text to token ids: one group at a time, counting everything that does not survive.

Sequences are built from ids: the prompt is encoded as it will be at inference, the response after it, and the
two are joined. Encoding the joined text instead would let the tokenizer merge across the boundary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from trueup.batch.chat import Piece, render, render_prompt
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.errors import InputError
from trueup.feedback.groups import Discarded, Group
from trueup.feedback.records import Content, Message

R = TypeVar("R", covariant=True)
Row = tuple[list[int], list[bool]]
"""Token ids, and which of them are scored."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a sequence may be, in tokens."""

    max_length: int
    """Prompt and response together; a longer response loses its end, and with it its end-of-sequence token."""
    max_prompt_length: int | None = None
    """A longer prompt loses its beginning; None leaves prompts alone."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedGroup(Generic[R]):
    """A group as token ids, and what encoding did to it."""

    tokens: TokenGroup[R]
    prompt_cut: bool
    responses_cut: int
    """Responses that lost their end to `max_length`."""
    notes: frozenset[str]


class Encoder:
    """Encodes groups with one tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        end_ids: tokens that end a turn; the first is appended where a response does not end with one of them.
        limits: lengths allowed.
    """

    def __init__(self, tokenizer: Any, *, end_ids: Sequence[int], limits: Limits) -> None:
        self.tokenizer = tokenizer
        self.end_ids = tuple(end_ids)
        self.limits = limits
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self.special = tuple(text for text in {*tokenizer.all_special_tokens, *added} if text)
        self.lead = _lead(tokenizer)

    def encode(self, group: Group[R]) -> EncodedGroup[R] | Discarded:
        """Token ids of one group, or the reason why it cannot be trained on.

        Raises:
            InputError: the tokenizer or its chat template cannot express the group.
        """
        notes: set[str] = set()
        opening = self._opening(group.prompt)
        prompt = self._prompt(group.prompt, opening)
        responses = [self._response(group.prompt, opening, response, notes) for response in group.responses]
        limits = self.limits
        if not prompt:
            return Discarded(
                "empty prompt and a tokenizer without a beginning-of-sequence token", group.origin
            )
        prompt_cut = limits.max_prompt_length is not None and len(prompt) > limits.max_prompt_length
        if limits.max_prompt_length is not None and prompt_cut:
            prompt = self._cut_prompt(prompt, limits.max_prompt_length)
        room = limits.max_length - len(prompt)
        if room < 1:
            return Discarded(f"prompt as long as max_length, {limits.max_length} tokens", group.origin)
        rows = tuple(
            TokenRow(np.array(ids[:room], np.int32), np.array(scored[:room], np.bool_))
            for ids, scored in responses
        )
        if not all(row.scored.any() for row in rows):
            return Discarded("response without a token to learn", group.origin)
        tokens = TokenGroup(np.array(prompt, np.int32), rows, group.relation, group.origin)
        responses_cut = sum(len(ids) > room for ids, _ in responses)
        return EncodedGroup(tokens, prompt_cut, responses_cut, frozenset(notes))

    def prompt_ids(self, prompt: Content) -> list[int]:
        """The ids a model is prompted with at inference; the same that `encode` puts before a response."""
        return self._prompt(prompt, self._opening(prompt))

    def _opening(self, prompt: Content) -> tuple[Piece, ...]:
        """A conversation's prompt as its template renders it; nothing for raw text."""
        if isinstance(prompt, str):
            return ()
        if self.tokenizer.chat_template is None:
            raise InputError(
                "the feedback holds conversations but the tokenizer has no chat template. Give one with "
                "--chat-template FILE, or feedback in raw text"
            )
        return render_prompt(self.tokenizer, prompt)

    def _prompt(self, prompt: Content, opening: tuple[Piece, ...]) -> list[int]:
        return self._raw_prompt(prompt) if isinstance(prompt, str) else self._prompt_pieces(opening)

    def _response(
        self, prompt: Content, opening: tuple[Piece, ...], response: Content, notes: set[str]
    ) -> Row:
        if isinstance(prompt, str):
            if not isinstance(response, str):
                raise InputError(
                    "the prompt is raw text but the response is a list of messages; give both as text or both as "
                    "messages"
                )
            return self._raw_response(prompt, response, notes)
        turns = (Message("assistant", response),) if isinstance(response, str) else response
        rendered = render(self.tokenizer, prompt, turns, opening)
        if rendered.note:
            notes.add(rendered.note)
        return self._response_pieces(rendered.response)

    def _raw_prompt(self, prompt: str) -> list[int]:
        ids = list(self.tokenizer(prompt, add_special_tokens=True).input_ids)
        while ids and ids[-1] in self.end_ids and not prompt.endswith(self.tokenizer.decode(ids[-1:])):
            ids.pop()  # an end of sequence that the tokenizer adds by itself would end the prompt
        begin = self.tokenizer.bos_token_id
        return ids[1:] if begin is not None and ids[:2] == [begin, begin] else ids

    def _raw_response(self, prompt: str, response: str, notes: set[str]) -> Row:
        """Raw text says what it says, unless its prompt was rendered beforehand, control tokens and all."""
        rendered = self._spells_special(prompt)
        if rendered:
            notes.add(
                "raw prompts spell special tokens; they and their responses are taken as already rendered"
            )
        end = self.tokenizer.eos_token
        ids = self._continue(response.removesuffix(end) if end else response, literal=not rendered)
        return self._end(ids, [True] * len(ids))

    def _prompt_pieces(self, pieces: Sequence[Piece]) -> list[int]:
        """The whole prompt at once, as at inference, unless what somebody wrote spells a special token."""
        if not any(piece.content and self._spells_special(piece.text) for piece in pieces):
            text = "".join(piece.text for piece in pieces)
            return list(self.tokenizer(text, add_special_tokens=False).input_ids)
        return [token for piece in pieces for token in self._continue(piece.text, literal=piece.content)]

    def _response_pieces(self, pieces: Sequence[Piece]) -> Row:
        ids: list[int] = []
        scored: list[bool] = []
        last = len(pieces) - 1
        for number, piece in enumerate(pieces):
            tokens = self._continue(piece.text, literal=piece.content)
            learned = len(tokens)
            if piece.assistant and not piece.content:
                ended = self._first_end(tokens)
                if ended is not None:
                    learned = ended + 1
                elif 0 < number < last:
                    learned = 0  # only the next turn's heading: nothing in it ends this one
                if number == last:
                    tokens = tokens[:learned]  # what follows the end of the last turn is never generated
            ids += tokens
            scored += [piece.assistant and place < learned for place in range(len(tokens))]
        return self._end(ids, scored)

    def _first_end(self, tokens: Sequence[int]) -> int | None:
        return next((place for place, token in enumerate(tokens) if token in self.end_ids), None)

    def _end(self, ids: list[int], scored: list[bool]) -> Row:
        if ids and ids[-1] in self.end_ids:
            return ids, scored
        return [*ids, self.end_ids[0]], [*scored, True]

    def _continue(self, text: str, literal: bool = False) -> list[int]:
        """Ids of text that stands in the middle of a sequence.

        Some tokenizers put a space before whatever they encode; the text is then encoded after a line break,
        whose own tokens are taken off again.
        """
        keywords = {"add_special_tokens": False} | ({"split_special_tokens": True} if literal else {})
        if self.lead:
            ids = list(self.tokenizer("\n" + text, **keywords).input_ids)
            if ids[: len(self.lead)] == self.lead:
                return ids[len(self.lead) :]
        return list(self.tokenizer(text, **keywords).input_ids) if text else []

    def _spells_special(self, text: str) -> bool:
        return any(special in text for special in self.special)

    def _cut_prompt(self, prompt: list[int], length: int) -> list[int]:
        """The end of the prompt, behind its beginning-of-sequence token if it has one."""
        begin = self.tokenizer.bos_token_id
        if begin is not None and prompt[0] == begin and length > 1:
            return [begin, *prompt[1 - length :]]
        return prompt[-length:]


def _lead(tokenizer: Any) -> list[int]:
    """Ids of a line break, where encoding after it gives other ids than encoding alone; else nothing."""

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    alone, after, line = encode("a"), encode("\na"), encode("\n")
    return line if after[: len(line)] == line and after[len(line) :] != alone else []
