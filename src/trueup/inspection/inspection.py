"""The whole inspection: everything is read, no malformed row stops it, and all that is wrong is found."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from trueup import display
from trueup.errors import InputError
from trueup.feedback.columns import AS_IT_IS, Table
from trueup.feedback.containers import opened
from trueup.feedback.read import FileReport, read_source
from trueup.feedback.records import Example, Origin, count, scores_of
from trueup.feedback.turns import as_chat, turns_in_loss, what_turns_did
from trueup.inspection import findings, statistics, unread
from trueup.inspection.findings import PARTS, Finding, Overlap, Severity, in_part, problem
from trueup.inspection.statistics import Distribution, Labels, Lengths, LongerChosen, Seen
from trueup.settings.data_settings import part_of
from trueup.sources.by_name import WORLD_PREFIX, examples_of_world
from trueup.words import listed, printable

if TYPE_CHECKING:
    from trueup.inspection.encoded import Coding, TokenCounts
    from trueup.inspection.shown import Shown


FOR_PEOPLE = ("training", "evaluation", "coding", "turns")


@dataclass(frozen=True, slots=True)
class Collected:
    """The training data or the evaluation data, as read."""

    examples: tuple[Example, ...] = ()
    files: tuple[FileReport, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Errors of files that could not be read at all."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that was found; docs/inspect.md tells what the fields are to a program, but for those of `FOR_PEOPLE`."""

    training: Collected
    evaluation: Collected
    views: Mapping[str, Seen]
    lengths: Mapping[str, Any] | None
    longer_chosen: LongerChosen | None
    labels: Labels | None
    scores: Distribution | None
    overlap: Sequence[Overlap]
    tokens: TokenCounts | None
    problems: Sequence[Finding]
    shown: Sequence[Shown]
    coding: Coding | None = None
    """What encoded, where a model was given."""
    turns: Sequence[str] = ()
    """What was done so that earlier turns of the assistant are learned."""

    def count(self, severity: Severity) -> int:
        """How many kinds of problem of this severity there are."""
        return sum(one.severity is severity for one in self.problems)

    @property
    def unreadable(self) -> bool:
        """Whether a file could not be read at all, or nothing is left to train on."""
        return bool(self.training.unreadable or self.evaluation.unreadable or not self.training.examples)

    def as_json(self) -> str:
        """One JSON object."""
        files = [
            {"path": one.path, "part": name}
            | {key: getattr(one, key) for key in ("layout", "rows", "examples", "sha256")}
            | {"report": one.lines()}
            for name, part in zip(PARTS, (self.training, self.evaluation), strict=True)
            for one in part.files
        ]
        told = (one.name for one in fields(self) if one.name not in FOR_PEOPLE)
        return json.dumps({"files": files} | {name: getattr(self, name) for name in told}, default=asdict)


def inspect(
    data: Sequence[str],
    eval_data: Sequence[str] = (),
    *,
    table: Table = AS_IT_IS,
    min_characters: int = 3,
    coding: Coding | None = None,
    show: int = 2,
    rows: Sequence[str] = (),
) -> Inspection:
    """Look at feedback from every side; nothing that is wrong with it stops this.

    Args:
        data: files and other sources to train on.
        eval_data: the same to evaluate on.
        table: how the columns of the files are called here, and what their labels mean.
        min_characters: a response with fewer visible characters is near-empty.
        coding: what encodes; None looks at the text alone.
        show: how many examples to show as tokens.
        rows: which ones, instead of the first.

    Raises:
        InputError: no file is named, or a row to show is not there.
    """
    if not data:
        raise InputError("no file of feedback was given; name at least one")
    training, evaluation = collect(data, table), collect(eval_data, table)
    if coding is not None and coding.chat:
        training, evaluation = (
            replace(part, examples=tuple(map(as_chat, part.examples))) for part in (training, evaluation)
        )
    examples = training.examples
    overlap, overlapping = findings.prompt_overlap(examples, evaluation.examples)
    problems = in_part(problems_of_reading(training), "training")
    if eval_data:
        problems += in_part(problems_of_reading(evaluation), "evaluation")
    for name, part in zip(PARTS, (training, evaluation), strict=True):
        problems += in_part(findings.problems_of_examples(part.examples, min_characters=min_characters), name)
    problems += in_part(overlapping, "evaluation")
    unit, lengths = "characters", tuple[Lengths | None, ...](map(statistics.character_lengths, examples))
    tokens: TokenCounts | None = None
    shown: tuple[Shown, ...] = ()
    turns: list[str] = []
    if coding is not None:
        from trueup.inspection import encoded
        from trueup.inspection.shown import choose, show_example
        from trueup.models.tokenizer import quiet_library

        learned = turns_in_loss(examples, coding.turns)
        turns = [what_turns_did(examples, learned)] if coding.turns == "all" else []
        held_out = turns_in_loss(evaluation.examples, coding.turns)
        chosen = choose(replace(training, examples=learned), rows, show) if training.files else []
        with quiet_library():  # the library warns of long texts, which are counted here
            everything = display.track([*learned, *held_out], "tokenizing")
            tokenized = encoded.encode_all(everything, coding, training=len(learned))
            shown = tuple(show_example(one, coding) for one in chosen)
        problems += tokenized.problems
        tokens = tokenized.counts
        unit, lengths = "tokens", tokenized.lengths[: len(examples)]
    by_kind, longer = statistics.lengths_by_kind(examples, lengths)
    return Inspection(
        training=training,
        evaluation=evaluation,
        views=statistics.seen_by_views(examples),
        lengths=statistics.length_table(unit, by_kind),
        longer_chosen=longer if longer.pairs else None,
        labels=statistics.label_counts(examples),
        scores=statistics.distribution(scores_of(examples)),
        overlap=overlap,
        tokens=tokens,
        problems=tuple(sorted(problems, key=lambda one: list(Severity).index(one.severity))),
        shown=shown,
        coding=coding,
        turns=turns,
    )


def collect(names: Sequence[str], table: Table = AS_IT_IS) -> Collected:
    """Read every source, in the order given; files that cannot be read are kept as errors.

    Args:
        names: whatever training takes for data: files, names such as `world:pairs?count=500`, data sets of the hub;
            of a part of a mixture as many examples as its limit says, each once.
        table: how the columns of the files are called here, and what their labels mean.
    """
    examples: list[Example] = []
    reports: list[FileReport] = []
    unreadable: list[str] = []
    for name in names:
        try:
            part = part_of(name)
            if part.name.startswith(WORLD_PREFIX):
                made, digest = examples_of_world(part.name)
                found = list(made)
                report = FileReport(
                    part.name, "the built-in world", len(made), len(made), digest, count(made)
                )
            else:
                found, report = read_source(opened(part.name, table), skip_bad=sys.maxsize)
        except InputError as error:
            unreadable.append(str(error))
            continue
        examples += found[: part.limit]
        reports.append(report)
    return Collected(tuple(examples), tuple(reports), tuple(unreadable))


def problems_of_reading(part: Collected) -> list[Finding]:
    """What reading found: files and rows that are malformed, rows that are of no use, keys that mean nothing."""
    problems = [problem("unreadable-file", details=[error]) for error in part.unreadable]
    bad = [
        (Origin(report.path, row), error) for report in part.files for row, error in report.skipped.items()
    ]
    if bad:
        problems.append(problem("malformed-row", [at for at, _ in bad], [error for _, error in bad]))
    reasons: dict[str, list[Origin]] = {}
    for report in part.files:
        for reason, numbers in report.unusable.items():
            reasons.setdefault(reason, []).extend(Origin(report.path, row) for row in numbers)
    problems += [problem("unusable-row", origins, about=reason) for reason, origins in reasons.items()]
    for report in part.files:
        problems += _of_keys(report)
    if not part.examples and not part.unreadable:
        problems.append(problem("no-examples"))
    return problems


def _of_keys(report: FileReport) -> list[Finding]:
    """Keys of a file that nothing reads."""
    problems = []
    by_kind: dict[tuple[str, str], list[str]] = {}
    for key in report.near_keys:
        by_kind["misspelt-key", key] = [key]
    for key in report.unused_rows:
        if key not in report.near_keys:
            by_kind.setdefault((unread.kind_of_key(key), ""), []).append(key)
    for (kind, near), keys in by_kind.items():
        rows = sorted({row for key in keys for row in report.unused_rows[key]})
        about = listed(map(printable, keys), 12) + report.near_keys.get(near, "")
        problems.append(problem(kind, [Origin(report.path, row) for row in rows], about=about))
    return problems
