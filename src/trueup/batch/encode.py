"""From text to token ids: one group at a time, counting everything that does not survive.
Sequences are built from ids: the prompt is encoded as it will be at inference, the response after it, and the two are
joined. Encoding the joined text instead would let the tokenizer merge across the boundary.
What conditional alignment writes into prompts is tried beforehand: whether the tokenizer can express it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from trueup.batch import chat, chat_template
from trueup.batch.pieces import PieceEncoder, Row, contents, lost_of, spells
from trueup.batch.tokens import TokenGroup, TokenRow
from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.feedback.records import Content, Discarded, Group, Message, Prompt
from trueup.feedback.turns import as_messages

MOST = 200  # rewards tried between the lowest and the highest that a condition writes
UNSPELLED = (
    "examples hold text that the tokenizer does not know, where the model sees a mark for unknown text",
    "examples hold characters that the tokenizer drops, so that the model never sees them",
)
"""Notes on a group whose text its tokens do not hold; `trueup inspect` tells which texts."""
R = TypeVar("R", covariant=True)
Opening = Literal["inference", "conversation"]
"""How an answer begins that a template writes otherwise in a conversation than it asks for it: not, or as there."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_length: int
    """Prompt and response together; a longer response loses its end, and with it its end-of-sequence token."""
    max_prompt_length: int | None = None  # a longer prompt loses its beginning; None leaves prompts alone


@dataclass(frozen=True, slots=True, eq=False)
class EncodedGroup(Generic[R]):
    tokens: TokenGroup[R]
    prompt_cut: bool
    responses_cut: int  # responses that lost their end to `max_length`
    notes: frozenset[str]


class Encoder:
    """Encodes groups with one tokenizer.
    The first of `end_ids` is appended where none ends a response. `condition` is written into every prompt; `date` is
    what chat templates write for today; `opening` says how answers begin; `raw_meant` that raw texts are to go
    without the chat template there is; `rows` are the token ids that have embeddings."""

    def __init__(
        self, tokenizer: Any, *, end_ids: Sequence[int], limits: Limits, condition: Condition | None = None,
        date: str | None = None, opening: Opening = "inference", raw_meant: bool = False,
        rows: int | None = None,
    ) -> None:  # fmt: skip
        self.tokenizer = tokenizer
        self.pieces = PieceEncoder(tokenizer, end_ids, date)
        self.end_ids, self.special = self.pieces.end_ids, self.pieces.special
        self.template, self.opening = self.pieces.template, opening
        self.raw_meant = raw_meant
        self.rows = rows or len(tokenizer)
        self.limits = limits
        self.condition = condition
        self._spelled: set[str] = set()  # characters that have come through

    def encode(self, group: Group[R]) -> EncodedGroup[R] | Discarded:
        """Token ids of one group, or the reason why it cannot be trained on."""
        notes: set[str] = set()
        if self.condition is not None:
            group = replace(group, prompt=self.condition.applied(group.prompt))
        prompt, responses = self._rows(group, notes)
        self._note(group, notes)
        self._note_unspelled(group, [prompt, *(ids for ids, _ in responses)], notes)
        limits = self.limits
        if not prompt:
            return Discarded("empty prompt and a tokenizer without a beginning-of-sequence token", group.origin)
        prompt_cut = limits.max_prompt_length is not None and len(prompt) > limits.max_prompt_length
        if limits.max_prompt_length is not None and prompt_cut:
            prompt = self._cut_prompt(prompt, limits.max_prompt_length)
        room = limits.max_length - len(prompt)
        if room < 1:
            return Discarded(f"prompt as long as max_length, {limits.max_length} tokens", group.origin)
        rows = tuple(
            TokenRow(np.array(ids[:room], np.int32), np.array(scored[:room], np.bool_)) for ids, scored in responses
        )
        if not all(row.scored.any() for row in rows):
            return Discarded("response without a token to learn", group.origin)
        tokens = TokenGroup(np.array(prompt, np.int32), rows, group.relation, group.origin)
        responses_cut = sum(len(ids) > room for ids, _ in responses)
        distinct = {tuple(ids) for ids, _ in responses}
        if len({ids[:room] for ids in distinct}) < len(distinct):
            notes.add(
                "some responses to one prompt differ only beyond max_length, where they are cut; nothing is learned "
                "from that difference"
            )
        return EncodedGroup(tokens, prompt_cut, responses_cut, frozenset(notes))

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The ids a model is prompted with at inference; the same that `encode` puts before a response."""
        if self.condition is not None:
            prompt = self.condition.applied(prompt)
        return self._prompt(prompt, self._opening(prompt))

    def cut_prompt_ids(self, prompt: Prompt) -> list[int]:
        """As `prompt_ids`, cut as `encode` cuts a prompt in training."""
        ids, longest = self.prompt_ids(prompt), self.limits.max_prompt_length
        return self._cut_prompt(ids, longest) if longest is not None and len(ids) > longest else ids

    def text(self, ids: Sequence[int]) -> str:
        """What token ids of a response say, without the tokens that end it or control the model."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _rows(self, group: Group[Any], notes: set[str]) -> tuple[list[int], list[Row]]:
        """Prompt and responses; after another prompt than at inference where that alone is how all answers begin."""
        try:
            return self._after(group, self._opening(group.prompt), notes)
        except chat.OpeningError:
            if self.opening == "inference" or isinstance(group.prompt.content, str) or any(group.tokens):
                raise
            opening = chat.conversation_prompt(self.template, group.prompt.content, group.prompt.tools)
            notes.add(
                "the chat template asks for answers otherwise than it writes them in conversations, as which they are "
                "learned"
            )
            return self._after(group, opening, notes)

    def _after(self, group: Group[Any], opening: chat_template.Text, notes: set[str]) -> tuple[list[int], list[Row]]:
        written = group.tokens or (None,) * len(group.responses)
        responses = [
            self._written(response, tokens, notes) or self._response(group, opening, response, notes)
            for response, tokens in zip(group.responses, written, strict=True)
        ]
        return self._prompt(group.prompt, opening), responses

    def bypasses_template(self, prompt: Prompt) -> bool:
        """Whether a raw text is encoded without the chat template there is, and that is not known to be meant."""
        content, template = prompt.content, self.tokenizer.chat_template
        raw = isinstance(content, str) and not spells(content, self.special)
        return raw and template is not None and not self.raw_meant

    def _opening(self, prompt: Prompt) -> chat_template.Text:
        """A conversation's prompt as its template renders it; nothing for raw text."""
        if isinstance(prompt.content, str):
            if prompt.tools:
                raise InputError(
                    "tools are declared for a prompt of raw text, which no chat template renders; give the prompt as "
                    "messages, or leave the tools out"
                )
            return chat_template.Text("")
        if self.tokenizer.chat_template is None:
            raise InputError(
                "the feedback holds conversations but the tokenizer has no chat template. Give one with "
                "--chat-template FILE, or feedback in raw text"
            )
        return chat.render_prompt(self.template, prompt.content, prompt.tools)

    def _note(self, group: Group[Any], notes: set[str]) -> None:
        content, tools = group.prompt.content, group.prompt.tools
        if isinstance(content, str):
            return
        said = [*content, *(turn for one in group.responses for turn in as_messages(one))]
        if self.template.ended_once(said) != said:
            notes.add("answers that end with the text of a token that ends a turn are given that token once")
        if tools and chat.leaves_out_tools(self.template, content, tools):
            notes.add("the chat template leaves out the tools that rows declare, so the model does not see them")

    def _note_unspelled(self, group: Group[Any], rows: Sequence[Sequence[int]], notes: set[str]) -> None:
        """Whether the tokens hold the text; only characters that are new are decoded to see."""
        unknown, begin = self.tokenizer.unk_token_id, self.tokenizer.bos_token_id
        if unknown not in (None, begin, *self.end_ids) and any(unknown in ids for ids in rows):
            notes.add(UNSPELLED[0])
            return
        texts = (group.prompt.content, *group.responses)
        new = {one for text in texts for part in contents(text) for one in part} - self._spelled
        both = zip(texts, rows, strict=True)
        if new and any(lost_of(text, ids, self.tokenizer, self.end_ids) for text, ids in both):
            notes.add(UNSPELLED[1])
        else:
            self._spelled |= new

    def _prompt(self, prompt: Prompt, opening: chat_template.Text) -> list[int]:
        content = prompt.content
        return self._raw_prompt(content) if isinstance(content, str) else self.pieces.prompt(opening)

    def _written(self, response: Content, tokens: Sequence[int] | None, notes: set[str]) -> Row | None:
        """The ids a policy wrote, all of them scored; None where they are not known or say something else here."""
        if not tokens:
            return None
        text = response if isinstance(response, str) else _one_turn(response)
        if text is not None and max(tokens) < self.rows and self.text(tokens) == text:
            return list(tokens), [True] * len(tokens)
        notes.add("token ids that stand with responses say something else in this tokenizer; their text was encoded")
        return None

    def _response(self, group: Group[Any], opening: chat_template.Text, response: Content, notes: set[str]) -> Row:
        prompt = group.prompt.content
        if isinstance(prompt, str):
            if not isinstance(response, str):
                raise InputError(
                    "the prompt is raw text but the response is a list of messages; give both as text or both as "
                    "messages"
                )
            return self._raw_response(prompt, response, notes)
        turns = as_messages(response)
        as_written = self.opening == "conversation"
        rendered = chat.render(self.template, prompt, turns, opening, group.prompt.tools, as_written=as_written)
        if rendered.note:
            notes.add(rendered.note)
        if opening.literal or any(turn.text.literal for turn in rendered.turns):
            notes.add("messages or tools spell special tokens; there they are text, not control tokens")
        return self.pieces.response(rendered.turns)

    def _raw_prompt(self, prompt: str) -> list[int]:
        ids = list(self.tokenizer(prompt, add_special_tokens=True).input_ids)
        while ids and ids[-1] in self.end_ids and not prompt.endswith(self.tokenizer.decode(ids[-1:])):
            ids.pop()  # an end of sequence that the tokenizer adds by itself would end the prompt
        begin = self.tokenizer.bos_token_id
        return ids[1:] if begin is not None and ids[:2] == [begin, begin] else ids

    def _raw_response(self, prompt: str, response: str, notes: set[str]) -> Row:
        """Raw text says what it says, unless its prompt was rendered beforehand, control tokens and all."""
        rendered = spells(prompt, self.special)
        if rendered:
            notes.add("raw prompts spell special tokens; they and their responses are taken as already rendered")
        end = self.tokenizer.eos_token
        ids = self.pieces.raw(response.removesuffix(end) if end else response, literal=not rendered)
        return self.pieces.end(ids, [True] * len(ids))

    def _cut_prompt(self, prompt: list[int], length: int) -> list[int]:
        """The end of the prompt, behind its beginning-of-sequence token if it has one."""
        begin = self.tokenizer.bos_token_id
        if begin is not None and prompt[0] == begin and length > 1:
            return [begin, *prompt[1 - length :]]
        return prompt[-length:]


def _one_turn(response: Sequence[Message]) -> str | None:
    alone = len(response) == 1 and response[0].role == "assistant" and not response[0].extra
    return response[0].content if alone else None


def check_condition(condition: Condition, tokenizer: Any, prompts: Sequence[Prompt] = ()) -> None:
    """Refuse a condition that holds words the tokenizer knows only as its unknown token, or whose numbers it drops.
    Every number from its lowest to its highest reward is tried, up to `MOST`, by itself and within some `prompts`."""
    for prompt in prompts:
        _check_in_place(condition, tokenizer, prompt)
    span = condition.highest - condition.lowest
    rewards = [condition.reward, *(condition.lowest + span * step / MOST for step in range(MOST + 1))]
    written: dict[tuple[int, ...], str] = {}
    for words in dict.fromkeys(condition.words(reward) for reward in rewards):
        other = written.setdefault(_ids(words, tokenizer), words)
        if unknown := unknown_words(words, tokenizer):
            raise InputError(
                f"the tokenizer has only its unknown token for {', '.join(map(repr, unknown))} in the condition "
                f"{words!r}. Write the reward with words it knows, by --condition and --decimals"
            )
        if other != words:
            raise InputError(
                f"the tokenizer makes the same tokens of the conditions {other!r} and {words!r}, so that the model "
                "could not tell rewards apart. Write the reward with words it knows, by --condition and --decimals"
            )


def _check_in_place(condition: Condition, tokenizer: Any, prompt: Prompt) -> None:
    """The same within a prompt, for the lowest and the highest reward."""
    bounds = (condition.lowest, condition.highest)
    written = [prompt, *(condition.applied(prompt, reward) for reward in bounds)]
    before, low, high = (_ids("\n".join(contents(one.content)), tokenizer) for one in written)
    unknown = tokenizer.unk_token_id
    most = max(ids.count(unknown) for ids in (low, high))
    lost = unknown is not None and most > before.count(unknown)
    same = low == high and condition.words(condition.lowest) != condition.words(condition.highest)
    if lost or same:
        what = "has only its unknown token for part of" if lost else "cannot tell rewards apart by"
        side = "before" if condition.position == "end" else "after"
        raise InputError(
            f"in a prompt, the tokenizer {what} the condition {condition.words()!r} at the {condition.position}: it "
            f"may be glued to the word beside it. Put a space {side} it in --condition, or write it with other words"
        )


def unknown_words(text: str, tokenizer: Any) -> list[str]:
    token = tokenizer.unk_token
    if token is None or token in text or not _unknown(text, tokenizer):
        return []
    return [word for word in text.split() if _unknown(word, tokenizer)] or [text]


def _unknown(text: str, tokenizer: Any) -> bool:
    return tokenizer.unk_token_id in _ids(text, tokenizer)


def _ids(text: str, tokenizer: Any) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)
