"""What rows say and nothing reads: keys that no layout uses, keys that a chat template does not write, text that a
tokenizer drops.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from trueup.feedback.records import Content, Example, Message
from trueup.feedback.turns import NOT_LEARNED
from trueup.words import shortened

REQUEST = re.compile(
    "system|history|context|instruction|question|input|prompt|query|passages|documents|tools|functions|images?|videos|"
    "audios"
)
"""Last words of keys that hold part of what was asked."""
JUDGEMENT = re.compile(
    "scores?|rewards?|ratings?|rank|ranking|labels?|grade|preference|votes?|upvotes|downvotes|margin|probability|"
    "confidence|annotations"
)
"""Last words of keys that judge responses, and first words of those that end with a word of `SIDES`."""
SIDES = {"chosen", "rejected", "a", "b", "ratio"}
OURS = {*NOT_LEARNED, "tool_calls"}
"""Keys that are for training, not for the template, and calls, which a template that leaves them out is refused for."""
TRIES = 20
"""How many examples are rendered with and without a key before it is taken for one that is left out."""
EXCERPT = 30
"""Characters of an excerpt."""


def kind_of_key(key: str) -> str:
    """The kind of problem that it is not to use a key.

    Example: `system_prompt` is part of a request, `score_chosen` and `chosenRating2` judge, `prompt_id` does neither.
    """
    words = re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", key).lower())
    last = words[-1] if words else ""
    if JUDGEMENT.fullmatch(last) or (last in SIDES and JUDGEMENT.fullmatch(words[0])):
        return "unused-judgement-key"
    return "unused-request-key" if REQUEST.fullmatch(last) else "unused-key"


class MessageKeys:
    """Renders conversations with and without a key; a key that changes one of them is used."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.used: set[str] = set()
        self.tried: dict[str, int] = {}
        self.left_out: dict[str, list[Example]] = {}

    def look(self, example: Example) -> None:
        """Look at every conversation of an example."""
        if isinstance(example.prompt.content, str):
            return
        for response in example.responses:
            if not isinstance(response.content, str):
                self._conversation(example, (*example.prompt.content, *response.content))

    def unused(self) -> Iterator[tuple[str, list[Example]]]:
        """Keys that changed nothing wherever they were tried, and the examples that have them."""
        return ((key, examples) for key, examples in self.left_out.items() if key not in self.used)

    def _conversation(self, example: Example, turns: tuple[Message, ...]) -> None:
        keys = {key for turn in turns for key, value in turn.extra.items() if value not in (None, "", [], {})}
        for key in sorted(keys - OURS - self.used):
            examples = self.left_out.setdefault(key, [])
            if not examples or examples[-1] is not example:
                examples.append(example)
            if self.tried.setdefault(key, 0) < TRIES:
                self.tried[key] += 1
                if self._rendered(example, turns) != self._rendered(example, turns, without=key):
                    self.used.add(key)

    def _rendered(self, example: Example, turns: tuple[Message, ...], without: str = "") -> str:
        plain = [
            {"role": turn.role, "content": turn.content}
            | {key: value for key, value in turn.extra.items() if key != without}
            for turn in turns
        ]
        tools = [dict(tool) for tool in example.prompt.tools] or None
        try:
            return str(self.tokenizer.apply_chat_template(plain, tools=tools, tokenize=False))
        except Exception as error:  # the template is a program of the model's author and may raise anything
            return f"refused: {error}"


def contents(given: Content) -> list[str]:
    """The texts of a prompt or a response."""
    return [given] if isinstance(given, str) else [one.content for one in given]


def detokenized(ids: Sequence[int], tokenizer: Any) -> str:
    """The text of ids, special tokens and spaces as they are."""
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def squeezed(text: str) -> str:
    """The text without white space and case."""
    return "".join(text.casefold().split())


def dropped(text: str, kept: str) -> str:
    """The visible characters that are oftener in one text than in what became of it, each once, in order.

    White space, case, accents and other forms of a character do not count. Nothing is said to be dropped where
    as many other characters stand for it.
    """
    if squeezed(text) in squeezed(kept):
        return ""
    before, after = _folded(text), _folded(kept)
    less = {one: before.count(one) - after.count(one) for one in dict.fromkeys(before)}
    more = sum(
        after.count(one) - before.count(one) for one in set(after) if after.count(one) > before.count(one)
    )
    gone = {one: number for one, number in less.items() if number > 0 and one.isprintable()}
    return "".join(gone) if sum(gone.values()) > more else ""


def _folded(text: str) -> str:
    folded = squeezed(text if text.isascii() else unicodedata.normalize("NFKD", text))
    return folded if folded.isascii() else "".join(one for one in folded if not unicodedata.combining(one))


def lost_of(given: Content, ids: Sequence[int], tokenizer: Any, ends: Sequence[int]) -> str:
    """What the ids of a prompt or a response do not hold: the characters, and an excerpt; empty where all is there.

    Args:
        given: text, or messages; their ids hold the template's own text as well.
        ids: of all of it, in order.
        ends: ids that end a response.
    """
    full = detokenized(_bare(ids, tokenizer.bos_token_id, ends), tokenizer)
    for text in contents(given):
        kept = full
        if not isinstance(given, str) and squeezed(text) not in squeezed(full):
            # The template's own text would hide what is lost, or seem to stand for it.
            kept = detokenized(tokenizer(text, add_special_tokens=False).input_ids, tokenizer)
        if gone := dropped(_stripped(text, tokenizer), kept):
            return f"drops {shortened(gone, 12)} of {shortened(around(text, gone), EXCERPT)}"
    return ""


def _bare(ids: Sequence[int], begin: int | None, ends: Sequence[int]) -> list[int]:
    """The ids without those that begin and end a sequence."""
    kept = [int(one) for one in ids]
    while kept and kept[-1] in ends:
        kept.pop()
    while kept and kept[0] == begin:
        kept.pop(0)
    return kept


def _stripped(text: str, tokenizer: Any) -> str:
    """The text without such tokens spelled out."""
    end, begin = tokenizer.eos_token, tokenizer.bos_token
    while end and text.endswith(end):
        text = text.removesuffix(end)
    while begin and text.startswith(begin):
        text = text.removeprefix(begin)
    return text


def around(text: str, gone: str) -> str:
    """Some of the text around the first character that is gone."""
    places = (at for at, one in enumerate(text) if set(_folded(one)) & set(gone))
    start = max(0, next(places, 0) - EXCERPT // 2)
    return text[start : start + EXCERPT]
