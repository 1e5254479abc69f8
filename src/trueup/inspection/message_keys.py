"""Keys of messages, beside role and content, that a chat template does not write: the model never sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trueup.feedback.records import Example, Message

OURS = {"loss", "disable_loss", "weight", "tool_calls"}
"""Keys that are for training, not for the template, and calls, which a template that leaves them out is refused for."""
TRIES = 20
"""How many examples are rendered with and without a key before it is taken for one that is left out."""


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
