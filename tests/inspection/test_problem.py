"""Places of problems, in words."""

from trueup.feedback.records import Origin
from trueup.inspection.problem import rows_of


def test_rows_by_file() -> None:
    one = [Origin("x/a.jsonl", row) for row in range(1, 8)]
    assert rows_of(one[:1]) == "a.jsonl:1"
    assert rows_of(one[:5]) == "a.jsonl: rows 1, 2, 3, 4, 5"
    assert rows_of([*one, Origin("b.jsonl", 9)]) == "a.jsonl: rows 1, 2, 3, 4, 5, ...; b.jsonl:9"
    assert rows_of([]) == ""


def test_names_that_look_the_same_are_written_out() -> None:
    assert rows_of([Origin("x/a.jsonl", 1), Origin("y/a.jsonl", 2)]) == "x/a.jsonl:1; y/a.jsonl:2"
    assert (
        rows_of([Origin("world:pairs", 1), Origin("hub:owner/pairs", 2)])
        == "world:pairs:1; hub:owner/pairs:2"
    )
