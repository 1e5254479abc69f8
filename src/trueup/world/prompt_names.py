"""Prompts of the world by name: `world:prompts?count=512&seed=1`. Text only."""

from __future__ import annotations

from urllib.parse import parse_qsl

from trueup.errors import InputError
from trueup.feedback.records import Origin, Prompt
from trueup.words import did_you_mean
from trueup.world.generate import prompts

KIND = "world:prompts"
DEFAULTS = {"count": 1000, "seed": 0}


def is_prompt_name(name: str) -> bool:
    """Whether a name is one of these, well formed or not."""
    return name.partition("?")[0] == KIND


def prompts_from_name(name: str) -> tuple[Prompt, ...]:
    """The prompts that a name stands for; those that feedback of the same seed is made on.

    Raises:
        InputError: a key or a value that cannot be used.
    """
    given: dict[str, int] = {}
    for key, value in parse_qsl(name.partition("?")[2], keep_blank_values=True):
        if key not in DEFAULTS:
            hint = did_you_mean(key, DEFAULTS, quoted=True) or f"; the keys are {', '.join(DEFAULTS)}"
            raise InputError(f"{name!r}: unknown key {key!r}{hint}")
        if key in given:
            raise InputError(f"{name!r}: {key} is given twice; give it once")
        try:
            given[key] = int(value)
        except ValueError as error:
            raise InputError(f"{name!r}: {key} must be a whole number; got {value!r}") from error
    count, seed = (DEFAULTS | given).values()
    if count < 1:
        raise InputError(f"{name!r}: count must be at least 1; got {count}")
    return tuple(
        Prompt(text, origin=Origin(KIND, row)) for row, text in enumerate(prompts(count, seed), start=1)
    )
