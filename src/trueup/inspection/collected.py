"""Reading all there is: no malformed row stops it, and each is kept with its error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from trueup.errors import InputError
from trueup.feedback.containers import opened
from trueup.feedback.read import FileReport, read_source
from trueup.feedback.records import Example, Origin
from trueup.feedback.viewed import count
from trueup.inspection import kinds
from trueup.inspection.kinds import Kind
from trueup.inspection.problem import Problem
from trueup.inspection.unused_keys import kind_of_key
from trueup.sources.by_name import WORLD, examples_of_world
from trueup.words import listed, printable


@dataclass(frozen=True, slots=True)
class Part:
    """The training data or the evaluation data, as read."""

    examples: tuple[Example, ...] = ()
    files: tuple[FileReport, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Errors of files that could not be read at all."""


def collect(names: Sequence[str]) -> Part:
    """Read every source, in the order given; files that cannot be read are kept as errors.

    Args:
        names: whatever training takes for data: files, names such as `world:pairs?count=500`, data sets of the hub.
    """
    examples: list[Example] = []
    reports: list[FileReport] = []
    unreadable: list[str] = []
    for name in names:
        try:
            found, report = (
                _world(name) if name.startswith(WORLD) else read_source(opened(name), skip_bad=sys.maxsize)
            )
        except InputError as error:
            unreadable.append(str(error))
            continue
        examples += found
        reports.append(report)
    return Part(tuple(examples), tuple(reports), tuple(unreadable))


def _world(name: str) -> tuple[list[Example], FileReport]:
    made, digest = examples_of_world(name)
    report = FileReport(
        path=name, layout="the built-in world", rows=len(made), examples=len(made), unusable={},
        skipped={}, unused_rows={}, near_keys={}, sha256=digest, counts=count(made),
    )  # fmt: skip
    return list(made), report


def problems_of_reading(part: Part) -> list[Problem]:
    """What reading found: files and rows that are malformed, rows that are of no use, keys that mean nothing."""
    problems = [Problem(kinds.UNREADABLE_FILE, 1, details=(error,)) for error in part.unreadable]
    bad = [
        (Origin(report.path, row), error) for report in part.files for row, error in report.skipped.items()
    ]
    if bad:
        rows, errors = zip(*bad, strict=True)
        problems.append(Problem(kinds.MALFORMED_ROW, len(bad), rows, errors))
    reasons: dict[str, list[Origin]] = {}
    for report in part.files:
        for reason, numbers in report.unusable.items():
            reasons.setdefault(reason, []).extend(Origin(report.path, row) for row in numbers)
    problems += [
        Problem(kinds.UNUSABLE_ROW, len(origins), tuple(origins), about=reason)
        for reason, origins in reasons.items()
    ]
    for report in part.files:
        for key, question in report.near_keys.items():
            about = f"{printable(key)}{question}"
            problems.append(_of_keys(kinds.MISSPELT_KEY, report, [key], about))
        by_kind: dict[Kind, list[str]] = {}
        for key in report.unused_rows:
            if key not in report.near_keys:
                by_kind.setdefault(kind_of_key(key), []).append(key)
        problems += [
            _of_keys(kind, report, keys, listed(map(printable, keys), 12)) for kind, keys in by_kind.items()
        ]
    if not part.examples and not part.unreadable:
        problems.append(Problem(kinds.NO_EXAMPLES, 1))
    return problems


def _of_keys(kind: Kind, report: FileReport, keys: Sequence[str], about: str) -> Problem:
    """A problem of the rows of a file that have one of the keys."""
    rows = sorted({row for key in keys for row in report.unused_rows[key]})
    return Problem(kind, len(rows), tuple(Origin(report.path, row) for row in rows), about=about)
