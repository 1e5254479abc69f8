"""Places of problems, in words."""

from trueup.feedback.records import Origin
from trueup.inspection.screen import folded, row_lines, short_names


def said(origins: list[Origin], *files: str) -> list[str]:
    names = short_names(files or [origin.file for origin in dict.fromkeys(origins)])
    rows: dict[str, list[int]] = {}
    for origin in origins:
        rows.setdefault(origin.file, []).append(origin.row)
    return row_lines(rows, names)


def test_rows_by_file() -> None:
    one = [Origin("x/a.jsonl", row) for row in range(1, 8)]
    files = ("x/a.jsonl", "b.jsonl")
    assert said(one[:1], *files) == ["a.jsonl:1"]
    assert said(one[:5], *files) == ["a.jsonl: rows 1, 2, 3, 4, 5"]
    assert said([*one, Origin("b.jsonl", 9)], *files) == [
        "a.jsonl: rows 1, 2, 3, 4, 5, and 2 more (--json lists all)",
        "b.jsonl:9",
    ]
    assert said([]) == []


def test_names_that_look_the_same_are_written_out() -> None:
    x, y = Origin("x/a.jsonl", 1), Origin("y/a.jsonl", 2)
    assert said([x, y]) == ["x/a.jsonl:1", "y/a.jsonl:2"]
    assert said([y], "x/a.jsonl", "y/a.jsonl") == ["y/a.jsonl:2"]
    assert said([Origin("world:pairs", 1), Origin("hub:owner/pairs", 2)]) == [
        "world:pairs:1",
        "hub:owner/pairs:2",
    ]


def test_lines_break_between_words_only() -> None:
    (rows,) = row_lines({"a name.jsonl": [28, 256]}, {})
    assert folded(rows, 20, 2) == "  a name.jsonl: rows\n    28, 256"
    assert folded("longer-than-that 28", 5, 2) == "  longer-than-that\n    28"
