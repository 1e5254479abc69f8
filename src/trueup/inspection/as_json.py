"""An inspection as plain values; docs/inspect.md lists the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trueup.feedback.records import Origin
from trueup.inspection.inspection import Inspection
from trueup.inspection.problem import Problem
from trueup.inspection.statistics import QUANTILES, Distribution, LengthTable, bins, distribution

if TYPE_CHECKING:
    from trueup.inspection.shown import Run, Shown


def as_json(inspection: Inspection) -> dict[str, Any]:
    """Everything that was found, for a program."""
    labels, lengths = inspection.labels, inspection.lengths
    parts = (("training", inspection.training), ("evaluation", inspection.evaluation))
    return {
        "files": [
            {
                "path": report.path, "part": part, "layout": report.layout, "rows": report.rows,
                "examples": report.examples, "sha256": report.sha256, "report": report.lines(),
            }
            for part, read in parts
            for report in read.files
        ],
        "views": {
            name: {"units": seen.units, "examples": seen.examples, "discarded": dict(seen.discarded)}
            for name, seen in inspection.views.items()
        },
        "lengths": _lengths(lengths),
        "longer_chosen": {"pairs": lengths.pairs, "longer": lengths.longer, "equal": lengths.equal}
        if lengths and lengths.pairs
        else None,
        "labels": {
            "good": labels.good, "bad": labels.bad, "middle": labels.middle, "graded": labels.graded,
        } if labels else None,
        "scores": _distribution(inspection.scores) if inspection.scores else None,
        "overlap": [
            {"evaluation": str(one.evaluation.origin), "training": [str(same.origin) for same in one.training]}
            for one in inspection.overlap
        ],
        "tokens": _tokens(inspection),
        "problems": [_problem(problem) for problem in inspection.problems],
        "shown": [_shown(shown) for shown in inspection.shown],
    }  # fmt: skip


def _lengths(table: LengthTable | None) -> dict[str, Any] | None:
    if table is None:
        return None
    made: dict[str, Any] = {"unit": table.unit}
    for kind, numbers in table.kinds.items():
        brief = distribution(numbers)
        assert brief is not None
        histogram = [
            {"from": first, "to": last, "count": count} for (first, last), count in bins(numbers).items()
        ]
        made[kind.replace(" ", "_")] = {**_distribution(brief), "histogram": histogram}
    return made


def _distribution(brief: Distribution) -> dict[str, Any]:
    return {
        "count": brief.count,
        "mean": brief.mean,
        "minimum": brief.minimum,
        "quantiles": {str(part): value for part, value in zip(QUANTILES, brief.quantiles, strict=True)},
        "maximum": brief.maximum,
    }


def _tokens(inspection: Inspection) -> dict[str, Any] | None:
    coding, tokenized = inspection.coding, inspection.tokenized
    if coding is None or tokenized is None:
        return None
    limits = coding.encoder.limits
    return {
        "model": coding.model,
        "max_length": limits.max_length,
        "max_prompt_length": limits.max_prompt_length,
        "turns": coding.turns,
        "end_ids": list(coding.loaded.end_ids),
        "examples": len(tokenized.lengths),
        "left_out": tokenized.left_out,
        "prompts_cut": tokenized.prompts_cut,
        "responses": tokenized.responses,
        "responses_cut": tokenized.responses_cut,
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "kind": problem.kind.name,
        "severity": problem.kind.severity.value,
        "part": problem.part or None,
        "what": problem.what,
        "remedy": problem.kind.remedy,
        "count": problem.count,
        "rows": _rows(problem.origins),
        "details": list(problem.details),
    }


def _rows(origins: tuple[Origin, ...]) -> dict[str, list[int]]:
    files: dict[str, list[int]] = {}
    for origin in origins:
        files.setdefault(origin.file, []).append(origin.row)
    return files


def _shown(shown: Shown) -> dict[str, Any]:
    return {
        "origin": shown.origin,
        "left_out": shown.left_out,
        "prompt": _run(shown.prompt) if shown.prompt else None,
        "prompt_cut": shown.prompt_cut,
        "responses": [
            {"said": one.said, "cut": one.cut, "runs": [_run(run) for run in one.runs]}
            for one in shown.responses
        ],
    }


def _run(run: Run) -> dict[str, Any]:
    return {"role": run.role, "ids": list(run.ids), "texts": list(run.texts)}
