"""Feedback larger than memory: rows are read, viewed and tokenized when a step needs them.
This can be done where nothing has to see all examples first. What is wrong with a row is found when it is read: the
first rows of every file before a model is loaded, the others in the course of the run."""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, chain, repeat
from pathlib import Path
from typing import Any

from trueup import display, errors, words
from trueup.batch import encode, tokenizing, tokens
from trueup.feedback import columns, containers, turns
from trueup.feedback.layouts.known import recognise
from trueup.feedback.layouts.layout import Layout
from trueup.feedback.records import Discarded, Example, Group, Origin
from trueup.methods.method import Method
from trueup.settings import data_settings, run_settings
from trueup.sources import by_name, source
from trueup.training import data

ALL_FIRST = 200_000  # rows up to which all are read before the first step, unless the user says otherwise
SHORTEST = 40
LOOKED_AT = 1000
RECENT = 4096


def read_lazily(settings: run_settings.RunSettings, method: Method) -> data.Data | None:
    """What a run learns from, where its rows are read when a step needs them; None where all are read first."""
    if settings.lazy is False:
        return None
    parts = [data_settings.part_of(name) for name in settings.data]
    if why := _why_all_first(settings, method, parts):
        if settings.lazy:
            raise errors.InputError(f"lazy is true, but {why}. Leave lazy out: all rows are read first then")
        return None
    paths = [Path(part.name) for part in parts]
    if not settings.lazy and sum(one.stat().st_size for one in paths if one.is_file()) < ALL_FIRST * SHORTEST:
        return None
    table = columns.table_of(settings)
    files = [LazyFile(containers.line_file(part.name, table), table, part) for part in parts]
    if not settings.lazy and sum(map(len, files)) <= ALL_FIRST:
        return None
    preprocessing = data.Preprocessing.fit(method, settings, ())
    evaluation = data.examples_of(settings, settings.eval_data)
    rows = LazyRows(files, preprocessing, evaluation.examples)
    rows.look()
    held_out = data.view_held_out(preprocessing, evaluation.examples)
    fingerprints = {file.lines.path: file.lines.sha256 for file in files}
    return data.Data({**fingerprints, **evaluation.fingerprints}, partial(_source, rows, held_out))


def _why_all_first(settings: run_settings.RunSettings, method: Method, parts: Sequence[data_settings.Part]) -> str:
    """What has to see all examples before the first step; empty where nothing has."""
    names = [part.name for part in parts]
    others = [name for name in names if name.startswith(by_name.WORLD_PREFIX) or Path(name).is_fifo()]
    reasons = (
        (method.transforms, "the method rewrites examples by what it finds in all of them"),
        (method.checks or method.stratum, "the method needs to know the kinds of all examples"),
        (settings.eval_fraction, "eval_fraction holds out all examples of a prompt"),
        (settings.skip_bad, "skip_bad says how many unreadable rows there may be in all"),
        (others, f"{words.listed(others)} is no file that can be read twice"),
        (len({*names}) < len(names), "a file stands there twice"),
    )
    return next((why for there, why in reasons if there), "")


@dataclass
class LazyFile:
    """A file, what is taken of it, and the layout of its first sound row."""

    lines: containers.LineFile
    table: columns.Table
    part: data_settings.Part
    layout: Layout | None = None

    def __len__(self) -> int:
        return min(len(self.lines), self.part.limit or len(self.lines))

    def example(self, index: int) -> Example | Discarded:
        row = self.lines.row(index)
        if self.layout is None and not row.error:
            self.table.check(row, self.lines.path)
        row = self.table.row(row, self.lines.path)
        if row.error:
            raise errors.InputError(row.error)
        origin = Origin(self.lines.path, row.number)
        self.layout = self.layout or recognise(row.value, origin, row.empty)
        made = self.layout.example(row.value, origin)
        if isinstance(made, Example) and (reason := turns.unusable_because(made)):
            return Discarded(reason, origin)
        return made


class LazyRows:
    """The rows of several files, one after the other, as often as their weights say, as groups of text."""

    def __init__(
        self, files: Sequence[LazyFile], preprocessing: data.Preprocessing, evaluation: Sequence[Example]
    ) -> None:
        self.files, self.preprocessing = files, preprocessing
        self._held_out = {example.prompt.key: example for example in evaluation}
        self._ends = list(accumulate(map(len, files)))
        weights = {file.lines.path: file.part.weight for file in files if file.part.weight != 1}
        paths = chain.from_iterable(repeat(file.lines.path, len(file)) for file in files)
        self._rows = by_name.mixed(range(self._ends[-1]), paths, weights, preprocessing.settings.seed)

    def __len__(self) -> int:
        return len(self._rows)

    def group(self, place: int) -> Group[Any] | Discarded:
        row = self._rows[place]
        number = bisect(self._ends, row)
        return self._group(self.files[number], row - self._ends[number] + len(self.files[number]))

    def _group(self, file: LazyFile, index: int) -> Group[Any] | Discarded:
        made, settings = file.example(index), self.preprocessing.settings
        if isinstance(made, Discarded):
            return made
        example = turns.as_chat(made) if settings.chat else made
        if example.prompt.key in self._held_out:
            held_out = self._held_out[example.prompt.key]
            by_name.check_overlap([example.prompt], [held_out], allowed=settings.allow_overlap)
            self._held_out = {}  # where it is allowed, one warning is enough
        return self.preprocessing.method.view(self.preprocessing.rewrite([example])[0])

    def look(self) -> None:
        """Read the first rows of every file, and say what they are."""
        for file in self.files:
            made = [self._group(file, index) for index in range(min(LOOKED_AT, len(file)))]
            left_out = [one.reason for one in made if isinstance(one, Discarded)]
            why = words.listed([f"{left_out.count(reason)} because {reason}" for reason in dict.fromkeys(left_out)])
            if len(left_out) == len(made):
                raise errors.InputError(f"{file.lines.path}: nothing of the first {len(made)} rows can be used: {why}")
            assert file.layout is not None  # a row was read
            display.data_logger.info(
                f"{file.lines.path}: {file.layout.name}, {words.counted(len(file), 'row')}, read when a step needs them"
                + (f"; of the first {len(made)}, not used: {why}" if left_out else "")
            )


class LazyTokens:
    """The groups of rows as tokens; None where a row holds nothing of use, whose reason is told once."""

    def __init__(self, rows: LazyRows, encoder: encode.Encoder, cache: tokenizing.TokenCache | None) -> None:
        self.rows, self.encoder, self.cache = rows, encoder, cache
        self._told: set[str] = set()
        self._recent = lru_cache(RECENT)(self._made)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tokens.TokenGroup[Any] | None:
        return self._recent(index)

    def _made(self, index: int) -> tokens.TokenGroup[Any] | None:
        found = self.rows.group(index)
        if isinstance(found, Discarded):
            made = tokenizing.Tokenized(dropped={found.reason: [found.origin]})
        else:
            made = tokenizing.tokenize([found], self.encoder, self.cache)
        news = [f"left out: {reason}" for reason in made.dropped] + [f"note: {note}" for note in made.notes]
        for line in news:
            if line not in self._told:
                self._told.add(line)
                display.data_logger.info(f"training data, {found.origin} (and others like it later): {line}")
        return made.groups[0] if made.groups else None


def _source(rows: LazyRows, held_out: Sequence[Group[Any]], parts: data.Parts) -> source.OfflineSource:
    encoder = rows.preprocessing.encoder(parts.loaded)
    cache = tokenizing.TokenCache(encoder) if parts.settings.token_cache else None
    first = [one for one in map(rows.group, range(min(LOOKED_AT, len(rows)))) if isinstance(one, Group)]
    known = tokenizing.tokens_of(first, encoder, what=f"training (first {LOOKED_AT} rows)", cache=cache)
    groups = LazyTokens(rows, encoder, cache)
    return data.source_of(groups, held_out, parts, rows.preprocessing, encoder, known=known)
