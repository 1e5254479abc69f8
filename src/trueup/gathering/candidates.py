"""Candidates: an example of each prompt, of what models wrote and of what a data set has already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.feedback.records import Content, Example, Message, Prompt, Response, content_key
from trueup.feedback.transforms.merge_prompts import merged
from trueup.feedback.turns import says_nothing
from trueup.gathering.writing import Written
from trueup.words import counted, numbered


@dataclass(frozen=True, slots=True)
class Candidates:
    """Examples, in the order of the prompts, and what was left out on the way."""

    examples: tuple[Example, ...]
    lines: tuple[str, ...]
    """For people."""


def put_together(
    prompts: Sequence[Prompt],
    written: Sequence[Written],
    also: Sequence[Example] = (),
    *,
    with_tokens: bool = True,
) -> Candidates:
    """One example of each prompt; of responses that are the same to the letter the first is kept, and no empty one.

    Args:
        written: by each model, in the order of the prompts.
        also: feedback on these prompts; its responses come first, with all that is said of them.
        with_tokens: keep the token ids that the models wrote.
    """
    known = {example.prompt.key: example for example in merged(also)}
    examples: list[Example] = []
    empty = twice = kept_before = 0
    without: list[Prompt] = []
    for place, prompt in enumerate(prompts):
        before = known.get(prompt.key)
        responses = [] if before is None else list(before.responses)
        kept_before += len(responses)
        seen = {content_key(one.content) for one in responses}
        for one in (one for model in written for one in model.responses[place]):
            content = spoken_to(prompt.content, one.text)
            if says_nothing(content):
                empty += 1
            elif content_key(content) in seen:
                twice += 1
            else:
                seen.add(content_key(content))
                responses.append(
                    Response(content, source=one.source, tokens=one.ids if with_tokens else None)
                )
        if not responses:
            without.append(prompt)
            continue
        comparisons = () if before is None else before.comparisons
        examples.append(Example(prompt, tuple(responses), comparisons))
    return Candidates(tuple(examples), tuple(_lines(kept_before, twice, empty, without)))


def spoken_to(prompt: Content, text: str) -> Content:
    """A response of the same kind as its prompt: text, or a turn of the assistant."""
    return text if isinstance(prompt, str) else (Message("assistant", text),)


def _lines(kept_before: int, twice: int, empty: int, without: Sequence[Prompt]) -> list[str]:
    lines = []
    if kept_before:
        lines.append(
            f"{counted(kept_before, 'response')} of the data kept beside them (--no-merge leaves them out)"
        )
    left_out = [f"{twice} that another response to the prompt repeats"] if twice else []
    left_out += [f"{empty} empty"] if empty else []
    if left_out:
        lines.append(f"responses left out: {', '.join(left_out)}")
    if without:
        files: dict[str, list[int]] = {}
        for prompt in without:
            if prompt.origin is not None:
                files.setdefault(prompt.origin.file, []).append(prompt.origin.row)
        places = "; ".join(f"{file} {numbered(rows)}" for file, rows in files.items())
        lines.append(
            f"{counted(len(without), 'prompt')} left out, without a response{f' ({places})' if places else ''}: too "
            "long, or every response was empty"
        )
    return lines
