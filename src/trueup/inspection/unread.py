"""What rows say and nothing reads: keys that no layout uses, keys that a chat template does not write."""

import re
from collections.abc import Iterator
from typing import Any

from trueup.feedback.records import Example, Message
from trueup.feedback.turns import NOT_LEARNED

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
