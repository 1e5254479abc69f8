"""Feedback with one fault each, and what an inspection finds in it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trueup.inspection.inspection import Inspection, inspect


def pair(prompt: str = "say red:", chosen: Any = " red it is", rejected: Any = " no colour") -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def ranked(*scores: float, prompt: str = "rank:") -> dict[str, Any]:
    responses = [f" answer {number}" for number in range(len(scores))]
    return {"prompt": prompt, "responses": responses, "scores": list(scores)}


def point(label: float, prompt: str = "point:", completion: str = " word") -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, "label": label}


def canonical(*responses: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"prompt": "canonical:", "responses": list(responses), **more}


def write(path: Path, rows: Iterable[object]) -> Path:
    """Rows as lines; text goes in as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def inspected(folder: Path, *rows: object, **options: Any) -> Inspection:
    """What is found in a file `a.jsonl` of these rows."""
    return inspect([str(write(folder / "a.jsonl", rows))], **options)


def rows_of_kinds(inspection: Inspection) -> dict[str, tuple[int, ...]]:
    """Kind of problem -> the rows that have it; a kind is found once, and counts its rows."""
    found = {one.kind: tuple(row for rows in one.rows.values() for row in rows) for one in inspection.problems}
    assert len(found) == len(inspection.problems)
    assert all(one.count == max(sum(map(len, one.rows.values())), 1) for one in inspection.problems)
    return found
