"""Read files of feedback into examples, and say of each what it was taken for and what became of its rows.

Of a file that holds prompts and nothing else, and of any file of feedback, the prompts alone can be read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from trueup.display import data_logger
from trueup.errors import InputError
from trueup.feedback import canonical, columns, containers, fields, json_rows, records, turns
from trueup.feedback.layouts.known import LAYOUTS, recognise
from trueup.feedback.layouts.layout import Layout
from trueup.feedback.records import Counts, Discarded, Example, Origin, Prompt, count
from trueup.words import counted, did_you_mean, listed, numbered, printable

MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a file was taken for, and what became of its rows."""

    path: str
    layout: str
    rows: int
    examples: int
    sha256: str
    """Of the bytes of the file; of the content of the rows of a data set."""
    counts: Counts
    unusable: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    skipped: Mapping[int, str] = field(default_factory=dict)
    """Bad rows that were skipped, as was allowed: number -> error."""
    unused_rows: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Keys that mean nothing in this layout -> the numbers of the rows that have them."""
    near_keys: Mapping[str, str] = field(default_factory=dict)
    """Those of the unused keys that may be misspelt -> what to ask the user."""
    contradicting: tuple[int, ...] = ()
    """Rows that prefer a response to one with a higher score or label."""
    not_kept: str = ""
    """What the layout's rows say that examples do not hold."""

    @property
    def unused_keys(self) -> dict[str, int]:
        return {key: len(rows) for key, rows in self.unused_rows.items()}

    def tell(self) -> None:
        for line in self.lines():
            data_logger.info(line)

    def lines(self) -> list[str]:
        why = self.unusable.items()
        unused = [f"{counted(len(rows), 'row')} because {reason} ({numbered(rows)})" for reason, rows in why]
        rows = f"{counted(self.rows, 'row')}, {self.counts.words()}"
        made = [f"{self.path}: {self.layout or 'no layout'}, {rows}"]
        made[0] += "; not used: " + ", ".join(unused) if unused else ""
        if self.skipped:
            first = next(iter(self.skipped.values()))
            skipped = f"{counted(len(self.skipped), 'bad row')} ({numbered(self.skipped)})"
            made.append(f"{self.path}: skipped {skipped}; the first: {first}")
        if unused_keys := self.unused_keys:
            order = unused_keys if len(unused_keys) <= MOST_NAMED else {**self.near_keys, **unused_keys}
            told = {key: counted(unused_keys[key], "row") + self.near_keys.get(key, "") for key in order}
            named = [f"{printable(key)} ({rows})" for key, rows in told.items()]
            made.append(f"{self.path}: keys not used: {listed(named, MOST_NAMED)}")
        if self.not_kept:
            made.append(f"{self.path}: not kept: {self.not_kept}")
        if self.contradicting:
            rows = f"{counted(len(self.contradicting), 'row')} ({numbered(self.contradicting)})"
            made.append(f"{self.path}: the scores or labels of {rows} contradict their comparison")
        return made


@dataclass(frozen=True, slots=True)
class Feedback:
    """The examples of some files, in order, and a report of each file."""

    examples: tuple[Example, ...]
    files: tuple[FileReport, ...]

    def lines(self) -> list[str]:
        return [line for report in self.files for line in report.lines()]


Paths = Sequence[str | Path]


def read_feedback(paths: Paths, *, skip_bad: int = 0, table: columns.Table = columns.AS_IT_IS) -> Feedback:
    """Read files of any known layouts: JSON lines, a JSON array, CSV or Parquet, plain or gzipped, each.
    A name may also be a folder of `datasets.save_to_disk`, or `hub:owner/name?split=test`. In every example prompt
    and responses are of one kind: text, or messages. Up to `skip_bad` malformed rows are left out."""
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files:
        raise InputError("no file of feedback was given; name at least one")
    if skip_bad < 0:
        raise InputError(f"skip_bad says how many malformed rows to leave out; it cannot be {skip_bad}")
    examples: list[Example] = []
    reports: list[FileReport] = []
    for path in files:
        made, report = read_source(containers.opened(path, table), skip_bad=skip_bad)
        skip_bad -= len(report.skipped)
        examples += made
        reports.append(report)
    if not examples:
        lines = [line for report in reports for line in report.lines()]
        raise InputError(f"no row can be used: {'; '.join(lines)}")
    return Feedback(tuple(examples), tuple(reports))


def read_source(source: containers.Opened, *, skip_bad: int) -> tuple[list[Example], FileReport]:
    layout: Layout | None = None
    examples: list[Example] = []
    bad: dict[int, str] = {}
    unusable: dict[str, list[int]] = {}
    unused: dict[str, list[int]] = {}
    contradicting: list[int] = []
    keys: set[str] = set()
    total = 0
    for row in source.rows:
        total += 1
        if row.error:
            bad[row.number] = row.error
            continue
        origin = Origin(source.name, row.number)
        layout = layout or recognise(row.value, origin, row.empty)
        try:
            made = layout.example(row.value, origin)
        except InputError as error:
            bad[row.number] = str(error)
            continue
        keys.update(row.value)
        for key in layout.unused(row.value):
            unused.setdefault(key, []).append(row.number)
        reason = made.reason if isinstance(made, Discarded) else turns.unusable_because(made)
        if reason:
            unusable.setdefault(reason, []).append(row.number)
        elif isinstance(made, Example):
            examples.append(made)
            if records.contradicts_scores(made):
                contradicting.append(row.number)
    if len(bad) > skip_bad:
        rest = f"; {counted(len(bad), 'bad row')} in this file ({numbered(bad)})" if len(bad) > 1 else ""
        remedy = "; --skip-bad leaves bad rows out" if 2 * len(bad) < total else ""
        raise InputError(next(iter(bad.values())) + rest + remedy)
    report = FileReport(
        path=source.name,
        layout=layout.name if layout else "",
        rows=total,
        examples=len(examples),
        unusable={reason: tuple(numbers) for reason, numbers in unusable.items()},
        skipped=bad,
        unused_rows={key: tuple(numbers) for key, numbers in unused.items()},
        near_keys=near_keys(unused, layout, keys),
        sha256=source.sha256(),
        counts=count(examples),
        contradicting=tuple(contradicting),
        not_kept=layout.not_kept if layout else "",
    )
    return examples, report


def near_keys(unused: Iterable[str], layout: Layout | None, keys: Collection[str]) -> Mapping[str, str]:
    known = [key for key in layout.optional if key not in keys] if layout else []
    hints = {key: did_you_mean(key, known, quoted=True) for key in islice(unused, json_rows.MOST_KEYS)}
    return {key: question for key, question in hints.items() if question}


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of some sources, each once, in order."""

    prompts: tuple[Prompt, ...]
    examples: tuple[Example, ...] = ()
    """Those of the sources that hold feedback: what is known of these prompts already."""


def read_prompts(paths: Paths, *, skip_bad: int = 0, table: columns.Table = columns.AS_IT_IS) -> Prompts:
    """Read the prompts of files, each once: of rows that hold `prompt` and no feedback, or of the examples."""
    found: list[Prompt] = []
    examples: list[Example] = []
    for path in paths:
        made, more, skipped = _of_file(path, skip_bad, table)
        skip_bad -= skipped
        found += made
        examples += more
    return Prompts(each_once(found), tuple(examples))


def each_once(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Each prompt once, where it first stands; it is told how many were left out."""
    kept: dict[object, Prompt] = {}
    for prompt in prompts:
        kept.setdefault(prompt.key, prompt)
    if twice := len(prompts) - len(kept):
        data_logger.info(f"{counted(twice, 'duplicate prompt')} left out")
    return tuple(kept.values())


Found = tuple[list[Prompt], list[Example], int]


def _of_file(path: str | Path, skip_bad: int, table: columns.Table) -> Found:
    """The prompts of a file, its examples where it holds feedback, and how many rows were skipped."""
    source = containers.opened(path, table)
    first = next(source.rows)
    if first.error and not skip_bad:
        raise InputError(first.error)
    source = replace(source, rows=chain([first], source.rows))
    known = any(layout.recognises(first.value) for layout in LAYOUTS)
    if "prompt" not in first.value or known:
        examples, report = read_source(source, skip_bad=skip_bad)
        if not examples:
            raise InputError(f"no row can be used: {'; '.join(report.lines())}")
        report.tell()
        return [one.prompt for one in examples], examples, len(report.skipped)
    made = []
    unused: dict[str, None] = {}
    for row in source.rows:
        if row.error:
            raise InputError(row.error)
        made.append(_prompt(fields.Field(row.value, Origin(source.name, row.number))))
        unused |= dict.fromkeys(key for key in row.value if key not in canonical.PROMPT_KEYS)
    data_logger.info(f"{source.name}: prompts, {counted(len(made), 'row')}")
    if unused:
        data_logger.info(f"{source.name}: keys not used: {listed(unused, MOST_NAMED)}")
    return made, [], 0


def _prompt(row: fields.Field) -> Prompt:
    given = turns.content(row["prompt"])
    if not given:
        raise row["prompt"].fault("the prompt is empty; leave the row out")
    return canonical.prompt_from(given, row)
