"""Feedback, prompts and annotators by name: files, the hub, the built-in world. Torch is not needed for reading."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import islice
from modulefinder import ModuleFinder
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from trueup import display, errors, model_folder, model_hub, python_objects, words
from trueup.batch.chat_template import today
from trueup.feedback import canonical, columns, records, turns
from trueup.feedback.read import Prompts, each_once, read_feedback, read_prompts
from trueup.feedback.records import Example, Prompt
from trueup.settings import annotator_settings, data_settings

if TYPE_CHECKING:
    from trueup.annotators.annotator import Annotator

WORLD_PREFIX = "world:"
T = TypeVar("T")
Examples = tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class NamedExamples:
    examples: Examples
    fingerprints: Mapping[str, str]  # source -> hash of its content
    weights: Mapping[str, float] = field(default_factory=dict)
    """File of an example's origin -> how often its examples stand in a pass, where that is not once."""


def examples_named(
    names: Sequence[str], settings: columns.Described | None = None, *, skip_bad: int = 0,
    chat: bool | None = None,
) -> NamedExamples:  # fmt: skip
    """Read every source: names of the world first, then files, each in the order given; and say what it is taken for.
    Names are paths, `hub:owner/name?split=test` or `world:pairs?count=500`, with weight and limit as parts of a
    mixture; `chat` makes conversations of raw texts; `skip_bad` malformed rows are allowed in all."""
    parts = sorted(map(data_settings.part_of, names), key=lambda part: not part.name.startswith(WORLD_PREFIX))
    of_world = [part for part in parts if part.name.startswith(WORLD_PREFIX)]
    others = parts[len(of_world) :]
    files = [part.name.partition("?")[0] for part in of_world] + [part.name for part in others]
    twice = [one for one in files if files.count(one) > 1]
    if twice and not all(part.taken_as_it_is for part in parts):
        raise errors.InputError(f"{twice[0]} stands twice in a mixture; name it once, with one weight and limit")
    read: list[tuple[data_settings.Part, Sequence[Example]]] = []
    fingerprints: dict[str, str] = {}
    for part in of_world:
        made, fingerprints[part.name] = examples_of_world(part.name)
        read.append((part, made))
        display.data_logger.info(f"{part.name}: {len(made)} examples of the built-in world")
    if others:
        feedback = read_feedback([part.name for part in others], skip_bad=skip_bad, table=columns.table_of(settings))
        left = iter(feedback.examples)
        for part, report in zip(others, feedback.files, strict=True):
            report.tell()
            fingerprints[report.path] = report.sha256
            read.append((part, own := list(islice(left, report.examples))))
            if line := records.agreement_of_people(own):
                display.data_logger.info(f"{report.path}: {line}")
    examples: list[Example] = []
    for part, made in read:
        examples += made[: part.limit]
        if part.limit is not None:
            told = f"the first {min(part.limit, len(made))} of {words.counted(len(made), 'example')} taken"
            display.data_logger.info(f"{part.name}: {told}")
    weights = {file: part.weight for file, part in zip(files, parts, strict=True) if part.weight != 1}
    return NamedExamples(tuple(map(turns.as_chat, examples) if chat else examples), fingerprints, weights)


def mixed(groups: Sequence[T], files: Iterable[str], weights: Mapping[str, float], seed: int) -> Sequence[T]:
    """The groups as often as the weights of their sources say, in order; the share of each source is told.
    Of a weight of 2.3 every group stands there twice, and three of ten, the same for the same seed, once more."""
    by_file: dict[str, list[int]] = {}
    for place, file in enumerate(files):
        by_file.setdefault(file, []).append(place)
    times = [1] * len(groups)
    for file, places in by_file.items():
        full, rest = divmod(weights.get(file, 1.0), 1.0)
        more = set(random.Random(f"trueup mixture {seed} {file}").sample(places, round(rest * len(places))))
        for place in places:
            times[place] = int(full) + (place in more)
    total = sum(times)
    if len(by_file) > 1 or weights:
        for file, places in by_file.items():
            share = sum(times[place] for place in places)
            weight = f"weight {weights.get(file, 1.0):g}"
            if not share:
                raise errors.InputError(f"{file}: the {weight} leaves none of {len(places)} groups; raise it")
            of_all = f"{share} of the {words.counted(total, 'group')} of a pass, {share / total:.1%}"
            display.data_logger.info(f"{file}: {of_all}, from {len(places)} ({weight})")
    if not weights:
        return groups
    return [group for group, number in zip(groups, times, strict=True) for _ in range(number)]


def examples_of_world(name: str) -> tuple[Sequence[Example], str]:
    from trueup.world.generate import from_name

    made = from_name(name)
    rows = "".join(json.dumps(canonical.example_to_row(example)) for example in made)
    return made, hashlib.sha256(rows.encode()).hexdigest()


def prompts_named(
    names: Sequence[str], settings: columns.Described | None = None, *, skip_bad: int = 0,
    chat: bool | None = None,
) -> Prompts:  # fmt: skip
    """The prompts of every source, each once: of the world first, then of files, in the order given; told, too."""
    from trueup.world.generate import from_name, is_prompt_name, prompts_from_name

    found: list[Prompt] = []
    examples: list[Example] = []
    for name in (name for name in names if name.startswith(WORLD_PREFIX)):
        more = () if is_prompt_name(name) else from_name(name)
        made = [one.prompt for one in more] if more else prompts_from_name(name)
        examples += more
        found += made
        display.data_logger.info(f"{name}: {words.counted(len(made), 'prompt')} of the built-in world")
    if files := [name for name in names if not name.startswith(WORLD_PREFIX)]:
        read = read_prompts(files, skip_bad=skip_bad, table=columns.table_of(settings))
        found += read.prompts
        examples += read.examples
    if chat:
        found, examples = list(map(turns.prompt_as_chat, found)), list(map(turns.as_chat, examples))
    return Prompts(each_once(found), tuple(examples))


def split(examples: Sequence[Example], fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Set a fraction of the examples aside for evaluation, the same for the same seed; a prompt is on one side."""
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
        raise errors.InputError(
            f"eval_fraction {fraction} of {len(examples)} examples leaves one part empty, {len(sizes)} prompts being "
            "held out whole. Give more data, another fraction, or --eval-data"
        )
    both = list(zip(keys, examples, strict=True))
    training = tuple(one for key, one in both if key not in held_out)
    return training, tuple(one for key, one in both if key in held_out)


def check_overlap(training: Iterable[Prompt], held_out: Sequence[Example], *, allowed: bool) -> None:
    """Refuse evaluation prompts that are also trained on, or warn of them if that is allowed."""
    known = {prompt.key for prompt in training}
    shared = [example for example in held_out if example.prompt.key in known]
    if not shared:
        return
    places = [str(example.origin) for example in shared if example.origin]
    where = f" ({words.listed(places)})" if places else ""
    found = f"{len(shared)} of {len(held_out)} evaluation examples have a prompt that is also trained on{where}"
    told = f"{found}; what is measured on them says little of new prompts"
    if not allowed:
        raise errors.InputError(f"{told}. Leave them out of one side, or allow it with --allow-overlap")
    words.logger.warning(told)


def model_named(name: str, *, weights: bool = True) -> str:
    """The folder of a model; the built-in one is made, and one of the hub fetched, where it is not there."""
    if name != model_folder.WORLD:
        return model_folder.folder_of(name, weights=weights)
    from trueup.world.model import world_model_path

    return str(world_model_path())


def judging_content(choice: annotator_settings.AnnotatorChoice) -> dict[str, str]:
    """The setting that names what an annotator judges by, and path or object of Python -> hash of what it is."""
    found: list[tuple[str, Path]] = []
    objects: dict[str, str] = {}
    for whose, one in (("", choice), *annotator_settings.annotators_in(choice).items()):
        about, given, at = one.about, vars(one), f"{whose}'s " if whose else ""
        for setting, named in about.files.items():
            name = given[setting] or ""
            if name.startswith(python_objects.PREFIX):
                objects[f"{at}{setting} {name}"] = python_objects.content_of(name)
            elif name and name not in named.known:
                path = Path(named.path(name))
                found += [(f"{at}{setting}", one) for one in (imported(path) if named.function else [path])]
        if about.weights is not None:
            found += [(f"{at}{about.main}", one) for one in model_folders(given[about.main])]
    files = {f"{at} {model_hub.named(path)}": model_folder.model_content(path) for at, path in found}
    return files | objects


def model_folders(name: str, *, weights: bool = True) -> list[Path]:
    """The folder of a model, and of the base of an adapter; none of the built-in one, which is made."""
    if name == model_folder.WORLD:
        return []
    folder = model_folder.folder_of(name, weights=weights)
    return [Path(one) for one in dict.fromkeys((folder, model_folder.base_folder(folder, weights=weights)))]


def imported(file: Path) -> list[Path]:
    """A file of Python, and what it imports from its own folder, at whatever depth; nothing of it is run."""
    folder = file.absolute().parent
    finder = ModuleFinder(path=[str(folder)])
    try:
        finder.run_script(str(file))
    except Exception:  # one of them is no Python, which is said when it is run
        return [file, *sorted(folder.rglob("*.py"))]
    others = (vars(one)["__file__"] for one in finder.modules.values())
    return [file, *sorted({Path(one) for one in others if one is not None} - {file})]


def make_annotator(
    choice: annotator_settings.AnnotatorChoice, *, seed: int = 0, device: str = "auto",
    trust_remote_code: bool = False, usage_file: Path | None = None, day: Callable[[], str] = today,
    new: bool = False,
) -> "Annotator":  # fmt: skip
    """The annotator that a choice describes, ready to judge.
    `usage_file` keeps what a budget allows over all sittings; `new` finds out first that no server is there."""
    about = choice.about
    settings: Any = choice
    if about.weights is not None:
        settings = replace(settings, **{about.main: model_named(vars(settings)[about.main])})
    maker = resolve_name(f"trueup.{about.maker}")
    given: dict[str, Any] = dict(
        seed=seed, device=device, trust_remote_code=trust_remote_code, usage_file=usage_file, day=day, new=new
    )
    offered = given | {"make": lambda one, file: make_annotator(one, **given | {"usage_file": file})}
    taken = signature(maker).parameters
    made: Annotator = maker(settings, **{name: value for name, value in offered.items() if name in taken})
    return made
