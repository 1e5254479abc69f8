"""The one record of feedback: what was observed, once, in text.

Everything a method trains on is a view of this record (`trueup.feedback.views`); views only discard.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: `Message("user", "Name three fruits.")`."""

    role: str
    content: str
    extra: Mapping[str, object] = field(default_factory=dict)
    """Further keys the chat template may read (`name`, `tool_calls`, ...), passed on untouched."""


Content = str | tuple[Message, ...]
"""Raw text, or the messages of a conversation."""

Tools = tuple[Mapping[str, object], ...]
"""JSON schemas of the tools an assistant may call: `({"type": "function", "function": {"name": "add"}},)`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something came from, so that an error or a metric can name it."""

    file: str
    row: int
    """1-based: the line of a JSONL file, the item of a JSON array, the example of a generator."""

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Something to ask a model, with all that belongs to it whoever answers: `Prompt("2 + 2 =")`."""

    content: Content
    tools: Tools = ()
    """What the assistant may call, for the chat template of a conversation; passed on untouched."""
    origin: Origin | None = None

    @property
    def key(self) -> str:
        """What can be looked up, and is equal for prompts that are the same to the letter, wherever they come from."""
        return repr(replace(self, origin=None))


@dataclass(frozen=True, slots=True)
class Response:
    """A response and what was said of it on its own.

    Example: `Response("Apples, pears, plums.", score=0.8, source="policy-a")`.
    """

    content: Content
    score: float | None = None
    """Any finite real number; higher is better, comparable within one example."""
    label: float | None = None
    """Desirability in [0, 1]; 1 and 0 are a thumb up and a thumb down."""
    demonstration: bool = False
    """True for a response to imitate as it is."""
    source: str | None = None
    """Who wrote it: a policy, a person, a data set."""
    tokens: tuple[int, ...] | None = None
    """Token ids as a policy wrote them, with the end of sequence where it wrote one; None where only the text is
    known. They are trained on as they are wherever they spell the content in the tokenizer at hand."""

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"a score must be a finite number; got {self.score}")
        if self.label is not None and not 0 <= self.label <= 1:
            raise ValueError(f"a label must lie in [0, 1]; got {self.label}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Response `better` was preferred to response `worse` (positions in the example)."""

    better: int
    worse: int
    probability: float = 1.0
    """How sure the judgement is, in (0.5, 1]; 1 is a plain preference."""

    def __post_init__(self) -> None:
        if self.better == self.worse:
            raise ValueError(f"a response cannot be preferred to itself; got position {self.better} twice")
        if not 0.5 < self.probability <= 1:
            raise ValueError(f"a comparison's probability must lie in (0.5, 1]; got {self.probability}")


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, K >= 1 responses, and everything observed about them.

    Example: `Example(Prompt("2 + 2 ="), (Response("4"), Response("5")), (Comparison(better=0, worse=1),))`.
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    comparisons: tuple[Comparison, ...] = ()

    def __post_init__(self) -> None:
        if not self.responses:
            raise ValueError("an example needs at least one response; got none")
        for comparison in self.comparisons:
            for position in (comparison.better, comparison.worse):
                if not 0 <= position < len(self.responses):
                    raise ValueError(
                        f"a comparison names response {position}, but the example has "
                        f"{len(self.responses)} (positions count from 0)"
                    )

    @property
    def origin(self) -> Origin | None:
        """Where the example came from: that of its prompt."""
        return self.prompt.origin


def content_key(content: Content) -> object:
    """What can be looked up, and is equal for contents that are the same to the letter."""
    if isinstance(content, str):
        return content
    return tuple((message.role, message.content, repr(message.extra)) for message in content)
