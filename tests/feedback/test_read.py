"""Reading files: the report of each, what is counted, what is fatal, what may be skipped."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.refusals import refused

from trueup.feedback.read import read_feedback
from trueup.feedback.records import Counts

pytestmark = pytest.mark.usefixtures("here")

Write = Callable[..., Path]

PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}
DEMONSTRATION = {"prompt": "p", "completion": "a"}
RANKING = {"query": "p", "responses": ["a", "b", "c"], "scores": [2, 1, 1]}
POINT = {"prompt": "p", "completion": "a", "label": False}


def test_files_of_different_kinds_in_one_call(write: Write) -> None:
    write(PAIR, PAIR, name="pairs.jsonl")
    write(RANKING, name="rankings.jsonl")
    write(raw=gzip.compress(json.dumps([POINT, POINT]).encode()), name="points.json.gz")
    write(DEMONSTRATION, name="demonstrations.jsonl")
    feedback = read_feedback(["pairs.jsonl", Path("rankings.jsonl"), "points.json.gz", "demonstrations.jsonl"])
    origins = " ".join(str(one.origin) for one in feedback.examples)
    assert origins == (
        "pairs.jsonl:1 pairs.jsonl:2 rankings.jsonl:1 points.json.gz:1 points.json.gz:2 demonstrations.jsonl:1"
    )
    assert feedback.files[0].counts == Counts(responses=4, comparisons=2)
    assert feedback.lines() == [
        "pairs.jsonl: TRL pairs, 2 rows, 2 comparisons",
        "rankings.jsonl: prompts with scored responses, 1 row, 3 scored responses",
        "points.json.gz: TRL prompts with labelled completions, 2 rows, 2 labelled responses",
        "demonstrations.jsonl: TRL prompts with completions, 1 row, 1 demonstration",
    ]


def test_one_path_is_not_taken_for_its_letters(write: Write) -> None:
    assert len(read_feedback(str(write(PAIR))).examples) == 1
    assert len(read_feedback(write(PAIR)).examples) == 1  # type: ignore[arg-type]


def test_report_says_what_was_not_used(write: Write) -> None:
    empty = {**PAIR, "chosen": " "}
    path = write(PAIR, *[empty] * 6, {**PAIR, "margin": 1, "sorce": "ann"}, {**PAIR, "margin": 2})
    (report,) = read_feedback(["data.jsonl"]).files
    assert (report.rows, report.examples, report.counts.comparisons) == (9, 3, 3)
    assert report.unusable == {"a response is empty": [2, 3, 4, 5, 6, 7]}
    assert report.unused_keys == {"margin": 2, "sorce": 1}
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.lines() == [
        "data.jsonl: TRL pairs, 9 rows, 3 comparisons; not used: 6 rows because a response is empty "
        "(rows 2, 3, 4, 5, 6, ...)",
        "data.jsonl: keys not used: margin (2 rows), sorce (1 row; did you mean 'source'?)",
    ]


def test_feedback_of_no_kind_is_said(write: Write) -> None:
    write({"prompt": "p", "responses": [{"content": "a"}, {"content": "b"}]})
    assert read_feedback(["data.jsonl"]).lines() == ["data.jsonl: canonical, 1 row, 2 responses without feedback"]


BAD_LINES = b"%s\n{oops\n%s\n%s\n%s\n" % tuple(
    json.dumps(row).encode() for row in (PAIR, {**PAIR, "chosen": 3}, PAIR, PAIR)
)


def test_bad_rows_are_fatal_unless_allowed(write: Write) -> None:
    write(raw=BAD_LINES)
    with refused(r"data.jsonl:2:2: .*; 2 bad rows in this file \(rows 2, 3\); --skip-bad"):
        read_feedback(["data.jsonl"])
    with refused(r"data.jsonl:2:2: .*2 bad rows"):
        read_feedback(["data.jsonl"], skip_bad=1)
    (report,) = read_feedback(["data.jsonl"], skip_bad=2).files
    assert (report.rows, report.examples, list(report.skipped)) == (5, 3, [2, 3])
    assert report.lines()[1].startswith(
        "data.jsonl: skipped 2 bad rows (rows 2, 3); the first: data.jsonl:2:2: not JSON"
    )


def test_what_may_be_skipped_is_counted_over_all_files(write: Write) -> None:
    write(raw=BAD_LINES)
    assert len(read_feedback(["data.jsonl"] * 2, skip_bad=4).examples) == 6
    with refused(r"data.jsonl:2:2"):
        read_feedback(["data.jsonl"] * 2, skip_bad=3)


def test_a_bad_first_row_does_not_decide_the_layout(write: Write) -> None:
    write(raw=b"{oops\n" + json.dumps(DEMONSTRATION).encode())
    (report,) = read_feedback(["data.jsonl"], skip_bad=1).files
    assert report.layout == "TRL prompts with completions"


def test_a_broken_array_is_fatal_whatever_is_allowed(write: Write) -> None:
    write(raw=b"[" + json.dumps(PAIR).encode() + b", {")
    with refused("the array is cut off"):
        read_feedback(["data.jsonl"], skip_bad=9)


def test_nothing_left_is_an_error(write: Write) -> None:
    write({**PAIR, "chosen": ""}, {**PAIR, "rejected": ""})
    with refused(r"no row can be used: data.jsonl: TRL pairs, 2 rows, .*because a response is"):
        read_feedback(["data.jsonl"])
    write(raw=b"{oops\n")
    with refused(r"no row can be used: data.jsonl: no layout, 1 row, .*skipped 1 bad row \(row 1"):
        read_feedback(["data.jsonl"], skip_bad=1)


def test_mistakes_of_the_call(write: Write) -> None:
    with refused("no file of feedback was given; name at least one"):
        read_feedback([])
    with refused("it cannot be -1"):
        read_feedback([write(PAIR)], skip_bad=-1)
