"""Which turns of the assistant are learned: those of the response alone, or the earlier ones of its prompt too.

Where all are, the prompt ends before the first turn of the assistant, and everything after it becomes part of
each response. What users, tools and the system say in between is read but not scored. Both sides of a pair begin
with the same turns, so that the difference between the sums of their log-probabilities stays as it was; a mean over
tokens does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trueup.feedback.records import Content, Example, Message
from trueup.feedback.turns import not_learned
from trueup.words import counted

Turns = Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class Spoken:
    """Examples whose responses hold what is learned."""

    examples: tuple[Example, ...]
    lines: tuple[str, ...] = ()
    """For people: what was done."""


def turns_in_loss(examples: Sequence[Example], turns: Turns) -> Spoken:
    """The examples as they are, or with every turn of the assistant in the responses."""
    if turns == "last":
        return Spoken(tuple(examples))
    made = tuple(every_turn(example) for example in examples)
    changed = sum(new is not old for new, old in zip(made, examples, strict=True))
    if not changed:
        line = "turns all changes nothing: no prompt holds an earlier turn of the assistant (text counts as one turn)"
    else:
        line = f"turns all: earlier turns of the assistant are learned in {changed} of {counted(len(made), 'example')}"
    return Spoken(made, (line,))


def every_turn(example: Example) -> Example:
    """The example with the assistant's earlier turns in its responses; itself where there are none.

    Turns of the assistant that open a conversation stay in the prompt: nothing asks for them.
    """
    prompt = example.prompt.content
    start = None if isinstance(prompt, str) else first_answer(prompt)
    if isinstance(prompt, str) or start is None:
        return example
    responses = (
        replace(response, content=(*prompt[start:], *messages(response.content)))
        for response in example.responses
    )
    asked = replace(example.prompt, content=prompt[:start])
    return replace(example, prompt=asked, responses=tuple(responses))


def first_answer(prompt: Sequence[Message]) -> int | None:
    """The position of the first turn of the assistant that follows a turn of somebody else."""
    after = next((at for at, message in enumerate(prompt) if message.role != "assistant"), len(prompt))
    return next((at for at in range(after, len(prompt)) if prompt[at].role == "assistant"), None)


def is_learned(turn: Message) -> bool:
    """Whether a turn is the assistant's, and no key (`loss`, `disable_loss`, `weight`) keeps it out of the loss."""
    return turn.role == "assistant" and not not_learned(turn)


def messages(content: Content) -> tuple[Message, ...]:
    """A response to messages as messages; text is a turn of the assistant."""
    return (Message("assistant", content),) if isinstance(content, str) else content
