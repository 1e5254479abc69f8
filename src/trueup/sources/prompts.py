"""Where prompts come from by name: files, and the built-in world. Reads text only; torch is not needed."""

from __future__ import annotations

from collections.abc import Sequence

from trueup.feedback.prompts import Prompts, distinct, of_examples, read_prompts
from trueup.feedback.records import Example, Prompt
from trueup.sources.gather import WORLD
from trueup.words import counted


def gather_prompts(names: Sequence[str], *, skip_bad: int = 0) -> Prompts:
    """The prompts of every source, each once: of the world first, then of files, each in the order given.

    Args:
        names: paths of files, `world:prompts?count=512&seed=1`, or names of the world's feedback.
        skip_bad: malformed rows of feedback allowed in all files together.

    Raises:
        InputError: a file is absent or malformed, or a name of the world is unknown.
    """
    found: list[Prompt] = []
    lines: list[str] = []
    examples: list[Example] = []
    for name in (name for name in names if name.startswith(WORLD)):
        made, more = _of_world(name)
        found += made
        examples += more
        lines.append(f"{name}: {counted(len(made), 'prompt')} of the built-in world")
    if files := [name for name in names if not name.startswith(WORLD)]:
        read = read_prompts(files, skip_bad=skip_bad)
        found += read.prompts
        lines += read.lines
        examples += read.examples
    return Prompts(*distinct(found, lines), tuple(examples))


def _of_world(name: str) -> tuple[Sequence[Prompt], Sequence[Example]]:
    from trueup.world.generate import from_name
    from trueup.world.prompt_names import is_prompt_name, prompts_from_name

    if is_prompt_name(name):
        return prompts_from_name(name), ()
    examples = from_name(name)
    return of_examples(examples), examples
