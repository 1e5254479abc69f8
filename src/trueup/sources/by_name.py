"""Feedback, prompts and annotators by name: files, the hub, the built-in world. Torch is not needed for reading."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from trueup import model_folder
from trueup.display import data_logger
from trueup.errors import InputError
from trueup.feedback.canonical import example_to_row
from trueup.feedback.read import Prompts, each_once, read_feedback, read_prompts
from trueup.feedback.records import Example, Prompt
from trueup.settings.annotator_settings import AnnotatorChoice
from trueup.words import counted, listed

if TYPE_CHECKING:
    from trueup.annotators.annotator import Annotator

logger = logging.getLogger(__name__)

WORLD_PREFIX = "world:"


@dataclass(frozen=True, slots=True)
class NamedExamples:
    """Examples of one or more sources."""

    examples: tuple[Example, ...]
    fingerprints: Mapping[str, str]
    """Source -> hash of its content."""


def examples_named(names: Sequence[str], *, skip_bad: int = 0) -> NamedExamples:
    """Read every source: names of the world first, then files, each in the order given; and say what it is taken for.

    Args:
        names: paths of files, or names such as `hub:owner/name?split=test` and `world:pairs?count=500`.
        skip_bad: malformed rows allowed in all files together.

    Raises:
        InputError: a file is absent or malformed, or a name of the world is unknown.
    """
    examples: list[Example] = []
    fingerprints: dict[str, str] = {}
    for name in (name for name in names if name.startswith(WORLD_PREFIX)):
        made, fingerprints[name] = examples_of_world(name)
        examples += made
        data_logger.info(f"{name}: {len(made)} examples of the built-in world")
    if files := [name for name in names if not name.startswith(WORLD_PREFIX)]:
        feedback = read_feedback(files, skip_bad=skip_bad)
        examples += feedback.examples
        for report in feedback.files:
            report.tell()
            fingerprints[report.path] = report.sha256
    return NamedExamples(tuple(examples), fingerprints)


def examples_of_world(name: str) -> tuple[Sequence[Example], str]:
    """Examples of the built-in world, and a hash of them.

    Raises:
        InputError: the name is unknown.
    """
    from trueup.world.generate import from_name

    made = from_name(name)
    rows = "".join(json.dumps(example_to_row(example)) for example in made)
    return made, hashlib.sha256(rows.encode()).hexdigest()


def prompts_named(names: Sequence[str], *, skip_bad: int = 0) -> Prompts:
    """The prompts of every source, each once: of the world first, then of files, each in the order given; told, too.

    Args:
        names: paths of files, `world:prompts?count=512&seed=1`, or names of the world's feedback.
        skip_bad: malformed rows of feedback allowed in all files together.

    Raises:
        InputError: a file is absent or malformed, or a name of the world is unknown.
    """
    from trueup.world.generate import from_name, is_prompt_name, prompts_from_name

    found: list[Prompt] = []
    examples: list[Example] = []
    for name in (name for name in names if name.startswith(WORLD_PREFIX)):
        if is_prompt_name(name):
            made: Sequence[Prompt] = prompts_from_name(name)
        else:
            more = from_name(name)
            examples += more
            made = [one.prompt for one in more]
        found += made
        data_logger.info(f"{name}: {counted(len(made), 'prompt')} of the built-in world")
    if files := [name for name in names if not name.startswith(WORLD_PREFIX)]:
        read = read_prompts(files, skip_bad=skip_bad)
        found += read.prompts
        examples += read.examples
    return Prompts(each_once(found), tuple(examples))


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


def check_overlap(training: Iterable[Prompt], held_out: Sequence[Example], *, allowed: bool) -> None:
    """Refuse evaluation prompts that are also trained on, or warn of them if that is allowed.

    Raises:
        InputError: there are some, and they are not allowed.
    """
    known = {prompt.key for prompt in training}
    shared = [example for example in held_out if example.prompt.key in known]
    if not shared:
        return
    where = listed([str(example.origin) for example in shared if example.origin])
    found = f"{len(shared)} of {len(held_out)} evaluation examples have a prompt that is also trained on ({where})"
    if not allowed:
        raise InputError(
            f"{found}; what is measured on them says little of new prompts. Leave them out of one side, or allow it "
            "with --allow-overlap"
        )
    logger.warning(f"{found}; what is measured on them says little of new prompts")


def model_named(name: str) -> str:
    """The folder of a model; that of the built-in one is made where it is not there yet."""
    if name != model_folder.WORLD:
        return name
    from trueup.world.model import world_model_path

    return str(world_model_path())


def make_annotator(
    choice: AnnotatorChoice,
    *,
    seed: int = 0,
    device: str = "auto",
    trust_remote_code: bool = False,
    usage_file: Path | None = None,
) -> Annotator:
    """The annotator that a choice describes, ready to judge.

    Args:
        seed: of its noise, for those that are noisy on purpose.
        device: where a model computes: `auto`, `cpu` or `cuda`.
        usage_file: keeps what an annotator with a budget takes, so that its limits hold over all sittings of a run;
            None counts this process alone.

    Raises:
        InputError: a model's folder, a template, a function or an instruction cannot be used.
        CheckpointError: what was used cannot be read.
    """
    about = choice.about
    settings: Any = choice
    if about.weights == "language model":
        settings = replace(settings, **{about.main: model_named(vars(settings)[about.main])})
    maker = resolve_name(about.maker)
    given = {"seed": seed, "device": device, "trust_remote_code": trust_remote_code, "usage_file": usage_file}
    taken = signature(maker).parameters
    made: Annotator = maker(settings, **{name: value for name, value in given.items() if name in taken})
    return made
