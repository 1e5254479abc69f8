"""Feedback with one fault each."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def pair(
    prompt: str = "say red:", chosen: Any = " red it is", rejected: Any = " no colour"
) -> dict[str, Any]:
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
