"""Prompts alone: of files that hold nothing else, or of any file of feedback."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from trueup.errors import InputError
from trueup.feedback.canonical import PROMPT_KEYS, prompt_from
from trueup.feedback.containers import opened
from trueup.feedback.fields import Place, needed
from trueup.feedback.layouts.known import LAYOUTS
from trueup.feedback.layouts.layout import RowValue
from trueup.feedback.lines import BadRow, Row
from trueup.feedback.read import read_file
from trueup.feedback.records import Example, Origin, Prompt
from trueup.feedback.turns import content
from trueup.words import counted


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of some sources, each once, in order."""

    prompts: tuple[Prompt, ...]
    lines: tuple[str, ...]
    """For people: what each source was taken for."""
    examples: tuple[Example, ...] = ()
    """Those of the sources that hold feedback: what is known of these prompts already."""


def read_prompts(paths: Sequence[str | Path], *, skip_bad: int = 0) -> Prompts:
    """Read the prompts of files of any kind that feedback is read from.

    A file whose rows hold `prompt`, as text or messages, and no feedback of any known layout, is a file of
    prompts; of any other the prompts of its examples are taken. What is equal to the letter is asked once.

    Args:
        skip_bad: malformed rows of feedback allowed in all files together.

    Raises:
        InputError: a file cannot be read, a row is malformed, or a layout is unknown.
    """
    found: list[Prompt] = []
    lines: list[str] = []
    examples: list[Example] = []
    for path in paths:
        made, more, said, skipped = _of_file(path, skip_bad)
        skip_bad -= skipped
        found += made
        examples += more
        lines += said
    return Prompts(*distinct(found, lines), tuple(examples))


def of_examples(examples: Iterable[Example]) -> list[Prompt]:
    """The prompts of examples."""
    return [example.prompt for example in examples]


def distinct(
    prompts: Sequence[Prompt], lines: Sequence[str] = ()
) -> tuple[tuple[Prompt, ...], tuple[str, ...]]:
    """Each prompt once, where it first stands; and the lines, with one more where some were left out."""
    kept: dict[object, Prompt] = {}
    for prompt in prompts:
        kept.setdefault(prompt.key, prompt)
    twice = len(prompts) - len(kept)
    more = [f"{counted(twice, 'duplicate prompt')} left out"] if twice else []
    return tuple(kept.values()), (*lines, *more)


def _of_file(path: str | Path, skip_bad: int) -> tuple[list[Prompt], list[Example], list[str], int]:
    """The prompts of a file, its examples where it holds feedback, lines for people, and how many rows were skipped."""
    source = opened(path)
    first = next(source.rows)
    if isinstance(first, BadRow) and not skip_bad:
        raise first.error
    if (
        isinstance(first, BadRow)
        or PROMPT_KEYS[0] not in first.value
        or any(layout.recognises(first.value) for layout in LAYOUTS)
    ):
        examples, report = read_file(path, skip_bad=skip_bad)
        if not examples:
            raise InputError(f"no row can be used: {'; '.join(report.lines())}")
        return of_examples(examples), examples, report.lines(), len(report.skipped)
    rows = list(_sound(chain([first], source.rows)))
    made = [_prompt(row.value, Origin(source.name, row.number)) for row in rows]
    unused = {key: None for row in rows for key in row.value if key not in PROMPT_KEYS}
    lines = [f"{source.name}: prompts, {counted(len(made), 'row')}"]
    if unused:
        lines.append(f"{source.name}: keys not used: {', '.join(unused)}")
    return made, [], lines, 0


def _sound(rows: Iterator[Row | BadRow]) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, BadRow):
            raise row.error
        yield row


def _prompt(row: RowValue, origin: Origin) -> Prompt:
    place = Place(origin)
    asked = content(needed(row, "prompt", place), place.key("prompt"))
    if not asked:
        raise place.key("prompt").fault("the prompt is empty; leave the row out")
    return prompt_from(asked, row, place)
