"""What becomes of examples as tokens, and every fault that shows only then; the model's weights are not loaded."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trueup import errors, model_folder, words
from trueup.batch import chat_template, encode, pieces
from trueup.feedback.records import Discarded, Example, Group
from trueup.feedback.turns import Turns, as_messages
from trueup.inspection import findings, statistics
from trueup.models.tokenizer import LoadedTokenizer, load_tokenizer
from trueup.settings.command_settings import InspectSettings

OF_USER = ("trust_remote_code", "eos_token", "chat_template")
DEFAULT_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Coding:
    model: str
    loaded: LoadedTokenizer
    encoder: encode.Encoder
    uncut: encode.Encoder
    adds_beginning: bool
    """Whether the tokenizer puts a beginning-of-sequence token before a text."""
    turns: Turns = "last"
    chat: bool = False

    @property
    def tokenizer(self) -> Any:
        return self.loaded.tokenizer


def load_coding(settings: InspectSettings) -> Coding:
    model = settings.model
    assert model is not None
    if model == model_folder.WORLD:  # whose model need not be made for it
        from trueup.world.model import MAX_LENGTH, make_tokenizer

        made: Any = make_tokenizer()
        loaded = LoadedTokenizer(made, (made.eos_token_id,), MAX_LENGTH, len(made))
    else:
        model = model_folder.check_model(model, trust_remote_code=settings.trust_remote_code, weights=False)
        of_user: dict[str, Any] = {name: getattr(settings, name) for name in OF_USER}
        loaded = load_tokenizer(model_folder.folder_of(model, weights=False), **of_user)
    limits = encode.Limits(_length(model, loaded.positions, settings.max_length), settings.max_prompt_length)
    if limits.max_prompt_length is not None and limits.max_prompt_length >= limits.max_length:
        room = f"leaves no room for a response within max_length {limits.max_length}"
        raise errors.InputError(f"max_prompt_length {limits.max_prompt_length} {room}; give a smaller one")
    tokenizer = loaded.tokenizer
    day = settings.template_date or chat_template.today()
    encoders = [
        encode.Encoder(
            tokenizer,
            end_ids=loaded.end_ids,
            limits=limit,
            condition=loaded.condition,
            date=day,
            opening=settings.answer_opening,
            raw_meant=settings.chat is False,
        )
        for limit in (limits, encode.Limits(sys.maxsize))
    ]
    begin = tokenizer.bos_token_id
    adds = begin is not None and list(tokenizer("a").input_ids)[:1] == [begin]
    return Coding(model, loaded, encoders[0], encoders[1], adds, settings.turns, bool(settings.chat))


def all_responses(example: Example) -> Group[None]:
    contents = tuple(response.content for response in example.responses)
    return Group(example.prompt, contents, None)


def _length(model: str, positions: int | None, given: int | None) -> int:
    if given is None:
        return min(DEFAULT_LENGTH, positions or DEFAULT_LENGTH)
    if positions is not None and given > positions:
        raise errors.InputError(f"max_length {given} is more than {model} was made for, {positions}; give less")
    return given


@dataclass(slots=True)
class TokenCounts:
    """What encoding does to the data; docs/inspect.md tells what the fields are to a program."""

    model: str
    max_length: int
    max_prompt_length: int | None
    turns: Turns
    template_date: str | None
    end_ids: Sequence[int]
    examples: int = 0
    left_out: int = 0
    """Examples of which nothing is left within the limits, or that cannot be encoded."""
    prompts_cut: int = 0
    responses: int = 0
    responses_cut: int = 0


class EncodedFeedback:
    """All examples as tokens; the first `training` of them are training data, the others evaluation data."""

    def __init__(self, examples: Iterable[Example], coding: Coding, *, training: int = sys.maxsize) -> None:
        self.coding, self.training = coding, training
        self.found: dict[tuple[str, str, str], list[tuple[Example, str]]] = {}
        self.keys = {part: findings.MessageKeys(coding.tokenizer) for part in findings.PARTS}
        self.lengths: list[statistics.Lengths | None] = []
        """Of each example, before anything is cut, with ends of responses; None where it cannot be encoded."""
        self.template_seen = False
        limits, dated = coding.encoder.limits, chat_template.writes_date(coding.tokenizer)
        day = coding.encoder.template.date if dated else None
        of_limits = (limits.max_length, limits.max_prompt_length)
        self.counts = TokenCounts(coding.model, *of_limits, coding.turns, day, coding.loaded.end_ids)
        for example in examples:
            try:
                lengths = self._example(example)
            except errors.InputError as error:
                self._add("cannot-encode", example, str(error))
                lengths = None
            self.lengths.append(lengths)
            self.counts.examples += 1
            self.counts.left_out += lengths is None
        self.problems = [*self._of_tokenizer(), *self._problems()]

    @property
    def part(self) -> str:
        return findings.PARTS[len(self.lengths) >= self.training]

    def _example(self, example: Example) -> statistics.Lengths | None:
        group = all_responses(example)
        uncut = self.coding.uncut.encode(group)
        if isinstance(uncut, Discarded):
            self._add("left-out", example, uncut.reason)
            return None
        tokens = uncut.tokens
        self._look(example, uncut)
        lengths = statistics.Lengths(len(tokens.prompt), tuple(len(row.ids) for row in tokens.responses))
        self.counts.responses += len(tokens.responses)
        self._cut(example, lengths)
        return lengths

    def _cut(self, example: Example, lengths: statistics.Lengths) -> None:
        limits = self.coding.encoder.limits
        most_prompt = limits.max_length if limits.max_prompt_length is None else limits.max_prompt_length
        if lengths.prompt <= most_prompt and lengths.prompt + max(lengths.responses) <= limits.max_length:
            return
        cut = self.coding.encoder.encode(all_responses(example))
        if isinstance(cut, Discarded):
            self.counts.left_out += 1
            self._add("left-out", example, cut.reason)
            return
        self.counts.prompts_cut += cut.prompt_cut
        self.counts.responses_cut += cut.responses_cut
        if cut.prompt_cut:
            self._add("cut-prompt", example, str(limits.max_prompt_length))
        if cut.responses_cut:
            self._add("cut-response", example, str(limits.max_length))

    def _look(self, example: Example, encoded: encode.EncodedGroup[None]) -> None:
        tokenizer, ends = self.coding.tokenizer, self.coding.loaded.end_ids
        prompt, rows = encoded.tokens.prompt, encoded.tokens.responses
        begin = tokenizer.bos_token_id
        if begin is not None and (prompt[:2] == begin).sum() == 2:
            self._add("double-beginning", example)
        elif self.coding.adds_beginning and prompt[0] != begin:
            self._add("no-beginning", example)
        content = example.prompt.content
        text = content if isinstance(content, str) else ""
        if self.coding.adds_beginning and text.startswith(tokenizer.bos_token):
            self._add("spelled-beginning", example)
        going_on: list[int] = []
        for row in rows:
            ended = np.isin(row.ids[:-1], ends) & row.scored[:-1] & row.scored[1:]
            going_on += row.ids[1:][ended].tolist()
        if any(after in ends for after in going_on):
            self._add("double-end", example)
        if any(after not in ends for after in going_on):
            self._add("text-after-end", example)
        if any(np.isin(row.ids[row.scored], ends).all() for row in rows):
            self._add("empty-as-tokens", example)
        unknown, every = tokenizer.unk_token_id, (prompt, *(row.ids for row in rows))
        if unknown not in (None, begin, *ends) and any((ids == unknown).any() for ids in every):
            self._add("unknown-tokens", example)
        elif gone := self._lost(example, encoded):
            self._add("lost-text", example, detail=f"{example.origin} {gone}")
        if self._spells_special(example):
            self._add("spelled-special", example)
        for note in sorted(encoded.notes - set(encode.UNSPELLED)):
            self._add("encoding", example, note)
        if self.coding.encoder.bypasses_template(example.prompt):
            self._add("raw-text", example)
        if isinstance(content, tuple) and not self.template_seen:
            self._template(example)
        self.keys[self.part].look(example)

    def _lost(self, example: Example, encoded: encode.EncodedGroup[None]) -> str:
        condition = self.coding.loaded.condition
        prompt = example.prompt if condition is None else condition.applied(example.prompt)
        given = (prompt.content, *(one.content for one in example.responses))
        ids = (encoded.tokens.prompt, *(row.ids for row in encoded.tokens.responses))
        tokenizer, ends = self.coding.tokenizer, self.coding.loaded.end_ids
        both = zip(given, ids, strict=True)
        found = (pieces.lost_of(text, row.tolist(), tokenizer, ends) for text, row in both)
        return next(filter(None, found), "")

    def _spells_special(self, example: Example) -> bool:
        """Whether a response of raw text spells a special token, but for the end it may stand before."""
        special, end = self.coding.uncut.special, self.coding.tokenizer.eos_token
        content = example.prompt.content
        if not isinstance(content, str) or pieces.spells(content, special):
            return False
        texts = [one.content for one in example.responses if isinstance(one.content, str)]
        return any(pieces.spells(text.removesuffix(end), special) for text in texts)

    def _template(self, example: Example) -> None:
        self.template_seen = True
        prompt, encoder = example.prompt, self.coding.uncut
        assert not isinstance(prompt.content, str)
        turns = as_messages(example.responses[0].content)
        text = encoder.template.write([*prompt.content, *turns], prompt.tools, ask=False)
        ends = tuple(str(self.coding.tokenizer.decode([end])) for end in encoder.end_ids)
        if not (text.endswith(ends) or text.rstrip().endswith(ends)):
            self.found["template-without-end", "", ""] = []

    def _of_tokenizer(self) -> Iterator[findings.Finding]:
        loaded, tokenizer = self.coding.loaded, self.coding.tokenizer
        if loaded.vocabulary is not None and len(tokenizer) > loaded.vocabulary:
            about = f"{len(tokenizer)} tokens, but the model {loaded.vocabulary}"
            yield findings.problem("vocabulary", about=about)
        if tokenizer.pad_token_id in loaded.end_ids:
            yield findings.problem("padding-is-end")

    def _problems(self) -> Iterator[findings.Finding]:
        for part, keys in self.keys.items():
            for key, examples in ((one, keys.found[one]) for one in keys.found if one not in keys.used):
                self.found["unused-message-key", words.printable(key), part] = [(one, "") for one in examples]
        order, parts = list(findings.KINDS), ("", *findings.PARTS)
        by_place = sorted(self.found, key=lambda one: (order.index(one[0]), parts.index(one[2]), one[1]))
        for kind, about, part in by_place:
            places = self.found[kind, about, part]
            details = [detail for _, detail in places if detail]
            yield findings.problem(kind, [one.origin for one, _ in places], details, about, part or None)

    def _add(self, kind: str, example: Example, about: str = "", detail: str = "") -> None:
        self.found.setdefault((kind, about, self.part), []).append((example, detail))
