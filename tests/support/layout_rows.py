"""Rows of every layout, from files of JSON lines in `feedback/rows`: one case a line.
examples.jsonl    a row, the layout it is taken for, the example it holds as a canonical record, and unused keys
faults.jsonl      rows, or a value set in (or, without one, a key taken out of) a layout's first example; the error
useless.jsonl     a row, perhaps after another, that is sound and counted as of no use, and why files.jsonl       the
bytes of a faulty file, each a character, and the error that reading it by this name gives"""

import copy
import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]
FOLDER = Path(__file__).parents[1] / "feedback" / "rows"


def cases(name: str) -> list[Row]:
    """The lines of a file."""
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


EXAMPLES = cases("examples")
FIRST: dict[str, Row] = {case["layout"]: case["row"] for case in reversed(EXAMPLES)}
"""The first row under each name of a layout."""
SOUND: list[Row] = list(
    {(one["layout"], frozenset(one["row"])): one["row"] for one in EXAMPLES if "why" not in one}.values()
)
"""A row with each set of keys of every layout, but for what a row may have beside any of them."""


def rows_of(fault: Row) -> list[Row]:
    """The rows of a fault."""
    if "rows" in fault:
        return list(fault["rows"])
    row = copy.deepcopy(FIRST[fault["layout"]])
    *path, last = fault["at"]
    inner: Any = row
    for step in path:
        inner = inner[step]
    if "value" in fault:
        inner[last] = fault["value"]
    else:
        del inner[last]
    return [row]
