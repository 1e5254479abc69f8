"""Where examples come from by name: files, the hub, the built-in world. Reads text only; torch is not needed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trueup.errors import InputError
from trueup.feedback.canonical import example_to_row
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example

WORLD = "world:"


@dataclass(frozen=True, slots=True)
class Gathered:
    """Examples of one or more sources."""

    examples: tuple[Example, ...]
    lines: tuple[str, ...]
    """For people: what each source was taken for."""
    fingerprints: Mapping[str, str]
    """Source -> hash of its content."""


def gather(names: Sequence[str], *, skip_bad: int = 0) -> Gathered:
    """Read every source: names of the world first, then files, each in the order given.

    Args:
        names: paths of files, or names such as `hub:owner/name?split=test` and `world:pairs?count=500`.
        skip_bad: malformed rows allowed in all files together.

    Raises:
        InputError: a file is absent or malformed, or a name of the world is unknown.
    """
    examples: list[Example] = []
    lines: list[str] = []
    fingerprints: dict[str, str] = {}
    files = [name for name in names if not name.startswith(WORLD)]
    for name in (name for name in names if name.startswith(WORLD)):
        from trueup.world.generate import from_name

        made = from_name(name)
        digest = hashlib.sha256(
            "".join(json.dumps(example_to_row(example)) for example in made).encode()
        ).hexdigest()
        examples += made
        fingerprints[name] = digest
        lines.append(f"{name}: {len(made)} examples of the built-in world")
    if files:
        feedback = read_feedback(files, skip_bad=skip_bad)
        examples += feedback.examples
        for report in feedback.files:
            lines += report.lines()
            fingerprints[report.path] = report.sha256
    return Gathered(tuple(examples), tuple(lines), fingerprints)


def split(
    examples: Sequence[Example], fraction: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Set a fraction of the examples aside for evaluation, the same for the same seed.

    Raises:
        InputError: one of the two parts would be empty.
    """
    if not fraction:
        return tuple(examples), ()
    count = round(len(examples) * fraction)
    if not 0 < count < len(examples):
        raise InputError(
            f"eval_fraction {fraction} of {len(examples)} examples leaves one part empty. Give more data, another "
            "fraction, or --eval-data"
        )
    held_out = set(random.Random(f"trueup split {seed}").sample(range(len(examples)), count))
    parts: tuple[list[Example], list[Example]] = ([], [])
    for place, example in enumerate(examples):
        parts[place in held_out].append(example)
    return tuple(parts[0]), tuple(parts[1])
