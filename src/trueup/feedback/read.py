"""Read files of feedback into examples, or their prompts alone, and say of each file what became of its rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from trueup import display, errors, words
from trueup.feedback import canonical, columns, containers, fields, json_rows, records, turns
from trueup.feedback.layouts.known import LAYOUTS, recognise
from trueup.feedback.layouts.layout import Layout
from trueup.feedback.records import Counts, Discarded, Example, Origin, Prompt, count

MOST_NAMED = 20


@dataclass(slots=True)
class FileReport:
    path: str
    layout: str = ""
    rows: int = 0
    examples: int = 0
    sha256: str = ""
    counts: Counts = field(default_factory=Counts)
    unusable: dict[str, list[int]] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    unused_rows: dict[str, list[int]] = field(default_factory=dict)
    near_keys: dict[str, str] = field(default_factory=dict)
    """Those of the unused keys that may be misspelt -> what to ask the user."""
    contradicting: list[int] = field(default_factory=list)
    """Rows that prefer a response to one with a higher score or label."""
    not_kept: str = ""

    @property
    def unused_keys(self) -> dict[str, int]:
        return {key: len(rows) for key, rows in self.unused_rows.items()}

    def tell(self) -> None:
        for line in self.lines():
            display.data_logger.info(line)

    def lines(self) -> list[str]:
        why = self.unusable.items()
        unused = [f"{words.counted(len(at), 'row')} because {reason} ({words.numbered(at)})" for reason, at in why]
        rows = f"{words.counted(self.rows, 'row')}, {self.counts.words()}"
        made = [f"{self.path}: {self.layout or 'no layout'}, {rows}"]
        made[0] += "; not used: " + ", ".join(unused) if unused else ""
        if self.skipped:
            first = next(iter(self.skipped.values()))
            skipped = f"{words.counted(len(self.skipped), 'bad row')} ({words.numbered(self.skipped)})"
            made.append(f"{self.path}: skipped {skipped}; the first: {first}")
        if unused_keys := self.unused_keys:
            order = unused_keys if len(unused_keys) <= MOST_NAMED else {**self.near_keys, **unused_keys}
            told = {key: words.counted(unused_keys[key], "row") + self.near_keys.get(key, "") for key in order}
            named = [f"{words.printable(key)} ({rows})" for key, rows in told.items()]
            made.append(f"{self.path}: keys not used: {words.listed(named, MOST_NAMED)}")
        if self.not_kept:
            made.append(f"{self.path}: not kept: {self.not_kept}")
        if self.contradicting:
            rows = f"{words.counted(len(self.contradicting), 'row')} ({words.numbered(self.contradicting)})"
            made.append(f"{self.path}: the scores or labels of {rows} contradict their comparison")
        return made


@dataclass(frozen=True, slots=True)
class Feedback:
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
        raise errors.InputError("no file of feedback was given; name at least one")
    if skip_bad < 0:
        raise errors.InputError(f"skip_bad says how many malformed rows to leave out; it cannot be {skip_bad}")
    examples: list[Example] = []
    reports: list[FileReport] = []
    for path in files:
        made, report = read_source(containers.opened(path, table), skip_bad=skip_bad)
        skip_bad -= len(report.skipped)
        examples += made
        reports.append(report)
    if not examples:
        raise nothing_used(reports)
    return Feedback(tuple(examples), tuple(reports))


def nothing_used(reports: Iterable[FileReport]) -> errors.InputError:
    lines = [line for report in reports for line in report.lines()]
    return errors.InputError(f"no row can be used: {'; '.join(lines)}")


def read_source(source: containers.Opened, *, skip_bad: int) -> tuple[list[Example], FileReport]:
    report = FileReport(source.name)
    layout: Layout | None = None
    examples: list[Example] = []
    keys: set[str] = set()
    for row in source.rows:
        report.rows += 1
        if row.error:
            report.skipped[row.number] = row.error
            continue
        origin = Origin(source.name, row.number)
        layout = layout or recognise(row.value, origin, row.empty)
        try:
            made = layout.example(row.value, origin)
        except errors.InputError as error:
            report.skipped[row.number] = str(error)
            continue
        keys.update(row.value)
        for key in layout.unused(row.value):
            report.unused_rows.setdefault(key, []).append(row.number)
        reason = made.reason if isinstance(made, Discarded) else turns.unusable_because(made)
        if reason:
            report.unusable.setdefault(reason, []).append(row.number)
        elif isinstance(made, Example):
            examples.append(made)
            if records.contradicts_scores(made):
                report.contradicting.append(row.number)
    if len(bad := report.skipped) > skip_bad:
        rest = f"; {words.counted(len(bad), 'bad row')} in this file ({words.numbered(bad)})" if len(bad) > 1 else ""
        remedy = "; --skip-bad leaves bad rows out" if 2 * len(bad) < report.rows else ""
        raise errors.InputError(next(iter(bad.values())) + rest + remedy)
    if layout:
        report.layout, report.not_kept = layout.name, layout.not_kept
        absent = [key for key in layout.optional if key not in keys]
        unused = islice(report.unused_rows, json_rows.MOST_KEYS)
        hints = {key: words.did_you_mean(key, absent, quoted=True) for key in unused}
        report.near_keys = {key: question for key, question in hints.items() if question}
    report.examples, report.counts, report.sha256 = len(examples), count(examples), source.sha256()
    return examples, report


@dataclass(frozen=True, slots=True)
class Prompts:
    prompts: tuple[Prompt, ...]
    examples: tuple[Example, ...] = ()
    """Those of the sources that hold feedback: what is known of these prompts already."""


def read_prompts(paths: Paths, *, skip_bad: int = 0, table: columns.Table = columns.AS_IT_IS) -> Prompts:
    found: list[Prompt] = []
    examples: list[Example] = []
    for path in paths:
        source = containers.opened(path, table)
        first = next(source.rows)
        if first.error and not skip_bad:
            raise errors.InputError(first.error)
        source = replace(source, rows=chain([first], source.rows))
        if "prompt" in first.value and not any(layout.recognises(first.value) for layout in LAYOUTS):
            found += _prompts_alone(source)
            continue
        made, report = read_source(source, skip_bad=skip_bad)
        if not made:
            raise nothing_used([report])
        report.tell()
        skip_bad -= len(report.skipped)
        found += (one.prompt for one in made)
        examples += made
    return Prompts(each_once(found), tuple(examples))


def each_once(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    kept: dict[object, Prompt] = {}
    for prompt in prompts:
        kept.setdefault(prompt.key, prompt)
    if twice := len(prompts) - len(kept):
        display.data_logger.info(f"{words.counted(twice, 'duplicate prompt')} left out")
    return tuple(kept.values())


def _prompts_alone(source: containers.Opened) -> list[Prompt]:
    made = []
    unused: dict[str, None] = {}
    for row in source.rows:
        if row.error:
            raise errors.InputError(row.error)
        found = fields.Field(row.value, Origin(source.name, row.number))
        if not (given := turns.content(found["prompt"])):
            raise found["prompt"].fault("the prompt is empty; leave the row out")
        made.append(canonical.prompt_from(given, found))
        unused |= dict.fromkeys(key for key in row.value if key not in canonical.PROMPT_KEYS)
    display.data_logger.info(f"{source.name}: prompts, {words.counted(len(made), 'row')}")
    if unused:
        display.data_logger.info(f"{source.name}: keys not used: {words.listed(unused, MOST_NAMED)}")
    return made
