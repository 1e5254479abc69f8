"""Work that is kept while it is done, in a file beside its output, so that a process that is killed loses little.

    {"of": "trueup sample", "settings": {"seed": "5feceb66ffc86f38", ...}}
    {"part": "sample 0 0", "value": [...]}
    {"part": "judge 0", "value": {...}}

Each part is one line, on disk before the next piece of work begins. A second call with the same settings goes on from
it, where the content of all files that they name is the same, too; what cannot change a result is left out. Settings
are kept as hashes: enough to tell which one differs, and nothing of an address or a path.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel

from trueup import display, errors, files, model_folder, stop, words
from trueup.batch.chat_template import today
from trueup.config.layers import flatten
from trueup.feedback import canonical, records
from trueup.settings import annotator_settings, gathering_settings, schema
from trueup.sources.by_name import judging_content, model_folders

SUFFIX = ".part"
DAY = "day"

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def check_place(name: str, *, overwrite: bool) -> None:
    """Refuse what cannot or must not be written, before anything is read."""
    if name == canonical.STANDARD_OUTPUT:
        why = "as work that is stopped goes on beside it; not the standard output"
        raise errors.InputError(f"output: give a file, {why}")
    canonical.check_output(name, force=True)
    if Path(name).exists() and not overwrite:
        raise errors.InputError(f"{name}: the file is there already; give another output, or --overwrite to replace it")


class Work:
    """The finished parts of a command's work, by name, beside its output, with `.part` after its name.
    `settings` are whatever the work depends on, JSON-ready; `first` counts items of other processes before its own."""

    def __init__(self, output: Path, of: str, settings: Mapping[str, object], first: int = 0) -> None:
        self.path = output.with_name(output.name + SUFFIX)
        self.parts: dict[str, Any] = {}
        self.of, self.first = of, first
        self.alone = "shard" not in settings
        """Whether all of the work is this process's, so that it is a fault if nothing comes of it."""
        self.settings = {name: digest(value)[:16] for name, value in settings.items()}
        self._journal = files.Journal(self.path)
        self._lock = FileLock(output.with_name(f".{output.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise errors.InputError(
                f"{output}: another process is at work on it. Wait for it, or give another output"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._begin()
        except BaseException:
            self._release()
            raise

    def in_parts(
        self, name: str, label: str, items: Sequence[Item], size: int,
        load: Callable[[], AbstractContextManager[Loaded]],
        make: Callable[[Loaded, str, Sequence[Item]], Any],
    ) -> list[Any]:  # fmt: skip
        """What `make` makes of every `size` items, in order; of parts that are kept, as they were kept.
        Items are always cut in the same way, so that it does not matter where an earlier process was stopped.
        `load` is entered only where something is left to do; `make` is given that, the part's name and its items."""
        parts = {f"{name} {(self.first + at) // size}": items[at : at + size] for at in range(0, len(items), size)}
        missing = [(number, part) for number, part in enumerate(parts, start=1) if part not in self.parts]
        if missing:
            with load() as loaded, display.bar(label, len(items)) as advance:
                try:
                    for number, part in missing:
                        stop.check()
                        self.keep(part, make(loaded, part, parts[part]))
                        advance(min(number * size, len(items)), {})
                finally:
                    del loaded  # so that its memory is free before anything else is loaded
        return [self.parts[part] for part in parts]

    def keep(self, name: str, value: Any) -> None:
        """Keep a finished part, JSON-ready; from here on it is as it will be read by another process."""
        line = json.dumps({"part": name, "value": value}, ensure_ascii=True, allow_nan=False)
        self._append(line)
        self.parts[name] = json.loads(line)["value"]

    def day(self) -> str:
        """The day on which the work began, in ISO's form: what a chat template writes in all of it."""
        if DAY not in self.parts:
            self.keep(DAY, today())
            words.logger.info(f"the chat template writes the date: in all of this work it is {self.parts[DAY]}")
        return str(self.parts[DAY])

    def finish(self) -> None:
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process go on; nothing is left behind where nothing was done."""
        if not self.parts:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        with suppress(OSError):  # while it is held, so that no other process can have taken it
            Path(self._lock.lock_file).unlink()
        self._lock.release()

    def _begin(self) -> None:
        """Read what is kept, unless it is of other work, and cut off a torn last line."""
        header = json.dumps({"of": self.of, "settings": self.settings})
        try:
            lines, torn = self._journal.read()
            if lines:
                self._compare(_read(lines[0]))
            elif not header.encode().startswith(torn):
                raise self._foreign()
            self._journal.keep(lines)
        except OSError as error:
            raise self._unwritable(error) from None
        if not lines:
            self._append(header)
        for number, line in enumerate(lines[1:], start=2):
            row = _read(line)
            if not isinstance(row, dict) or row.keys() != {"part", "value"}:
                raise errors.InputError(
                    f"{self.path}:{number}: what was done so far is damaged there. Delete that line and all after it, "
                    "which are done again, or the file"
                )
            self.parts[str(row["part"])] = row["value"]

    def _compare(self, header: Any) -> None:
        theirs = header.get("settings") if isinstance(header, dict) else None
        if not isinstance(theirs, dict) or header.get("of") != self.of:
            raise self._foreign()
        if different := differing(self.settings, theirs):
            raise errors.InputError(
                f"{self.path} was begun with other settings ({words.listed(different)}). Give those again to go on "
                "with it, delete it to start over, or give another output"
            )

    def _append(self, line: str) -> None:
        try:
            self._journal.append(line.encode("ascii"))
        except OSError as error:
            raise self._unwritable(error) from None

    def _foreign(self) -> errors.InputError:
        return errors.InputError(f"{self.path} is not what {self.of} keeps its work in. Delete it, or give another one")

    def _unwritable(self, error: OSError) -> errors.InputError:
        why = f"the work done so far cannot be kept there: {words.reason(error)}"
        return errors.InputError(f"{self.path}: {why}. Make room, or give another output")


@contextmanager
def resumable(output: Path, of: str, settings: Mapping[str, object], first: int = 0) -> Iterator[Work]:
    """What a command does its work in; a stop, and a fault of an annotator, say that nothing done is lost."""
    with closing(Work(output, of, settings, first)) as work:
        try:
            with stop.on_signals():
                yield work
        except errors.Stopped as stopped:
            again = f"the same command goes on from {work.path}"
            words.logger.info(f"stopped by {stopped}{f'; {again}' if work.parts else ' before anything was done'}")
            raise
        except errors.AnnotatorError as error:
            if not work.parts:
                raise
            raise errors.AnnotatorError(
                f"{error}. What is done is kept in {work.path}, and the same command goes on from there"
            ) from error


def of_sampling(
    settings: gathering_settings.SampleSettings, prompts: Iterable[records.Prompt], also: Iterable[records.Example]
) -> dict[str, object]:
    """Name -> what the work of a command depends on; JSON-ready."""
    served = settings.sampler.served
    folders = [one for name in settings.model for one in model_folders(name, weights=not served)]
    return _of(settings) | {
        "data": digest([canonical.prompt_parts(one) for one in prompts]),
        "data with feedback": digest_of_examples(also),
        "files of the model": list(map(model_folder.model_content, folders)),
        "chat_template": _content(settings.chat_template),
    }


def of_annotating(
    settings: gathering_settings.AnnotateSettings, examples: Iterable[records.Example]
) -> dict[str, object]:
    found = _of(settings) | {"data": digest_of_examples(examples)}
    if settings.rewrite:
        return found | {"rewrite_template": [settings.rewrite_template, _content(settings.rewrite_template)]}
    return {name: value for name, value in found.items() if not name.startswith("rewrite_")}


def _of(settings: gathering_settings.SampleSettings | gathering_settings.AnnotateSettings) -> dict[str, object]:
    own = {"shard": settings.shard} if settings.shard else {}
    return deciding(settings) | files_of(settings.annotator) | own


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The settings that two pieces of work do not share, of their hashes; one that is left out is None."""
    left_out = digest(None)[:16]
    return [name for name in {**one, **other} if one.get(name, left_out) != other.get(name, left_out)]


def deciding(settings: BaseModel) -> dict[str, object]:
    """The settings that change the result, as earlier versions wrote them, so that their work is gone on with."""
    names = {one.path for one in schema.settings_in(type(settings)) if one.role.affects == "result"}
    given = flatten(settings.model_dump(mode="json"))
    for name in given.keys() & {"annotator.base_url", "sampler.base_url"}:
        if given[name] and len(given[name]) == 1:
            (given[name],) = given[name]
    if given.get("annotator.form") == "auto":
        given["annotator.form"] = None
    return {
        name.removeprefix("sampler."): annotator_settings.decisive(value)
        for name, value in given.items()
        if name in names
    }


def files_of(choice: annotator_settings.AnnotatorChoice | None) -> dict[str, object]:
    """The content of the files that an annotator is made of, by the settings that name them."""
    found: dict[str, Any] = {}
    for name, content in judging_content(choice).items() if choice is not None else ():
        found.setdefault(f"annotator's {name.partition(' ')[0]}", []).append(content)
    return found


def _content(file: str | None) -> str | None:
    path = Path(file or "")
    return files.file_hash(path) if file and path.is_file() else None


def digest_of_examples(examples: Iterable[records.Example]) -> str:
    return digest([canonical.example_to_row(one) for one in examples])


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
