"""Where examples come from by name: files, the hub, the built-in world. Reads text only; torch is not needed."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
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

    All examples of a prompt are on one side, so that nothing is evaluated on a prompt that was trained on. Where
    prompts stand several times, the part held out may be larger than asked by the examples of its last prompt.

    Raises:
        InputError: one of the two parts would be empty.
    """
    if not fraction:
        return tuple(examples), ()
    count = round(len(examples) * fraction)
    keys = [example.prompt.key for example in examples]
    sizes = Counter(keys)
    held_out: set[object] = set()
    size = 0
    for key in random.Random(f"trueup split {seed}").sample(list(sizes), len(sizes)):
        if size >= count:
            break
        held_out.add(key)
        size += sizes[key]
    if not 0 < size < len(examples):
        raise InputError(
            f"eval_fraction {fraction} of {len(examples)} examples leaves one part empty, {len(sizes)} prompts being "
            "held out whole. Give more data, another fraction, or --eval-data"
        )
    parts: tuple[list[Example], list[Example]] = ([], [])
    for key, example in zip(keys, examples, strict=True):
        parts[key in held_out].append(example)
    return tuple(parts[0]), tuple(parts[1])


def overlap(training: Sequence[Example], evaluation: Sequence[Example]) -> list[Example]:
    """The evaluation examples whose prompt is also in the training data."""
    known = {example.prompt.key for example in training}
    return [example for example in evaluation if example.prompt.key in known]
