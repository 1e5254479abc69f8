"""Rows of every layout: the example each holds, the fault each is told, or why it is of no use; see
`support/layout_rows.py`."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.layout_rows import EXAMPLES, FIRST, Row, cases, rows_of
from support.refusals import refused

from trueup.cli.app import run
from trueup.errors import InputError
from trueup.feedback import views
from trueup.feedback.canonical import example_to_row
from trueup.feedback.layouts.known import FAMILIES, LAYOUTS
from trueup.feedback.layouts.layout import Layout
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Discarded, Example, Group, Origin

Write = Callable[..., Path]
Convert = Callable[..., Example]

PAGE = Path(__file__).parents[2] / "docs" / "feedback.md"


def named(case: Row) -> str:
    return json.dumps(case.get("row", case.get("rows", case.get("at"))))[:50]


@pytest.mark.parametrize("case", EXAMPLES, ids=named)
def test_a_row_holds_its_example(case: Row, write: Write) -> None:
    feedback = read_feedback([write(case["row"])])
    (example,), (report,) = feedback.examples, feedback.files
    assert report.layout == case["layout"]
    assert list(report.unused_keys) == case.get("unused", [])
    assert json.dumps(example_to_row(example)) == json.dumps(case["example"])
    assert example.origin == Origin(report.path, 1)


@pytest.mark.parametrize("case", cases("faults"), ids=named)
def test_a_fault_is_one_line_with_the_path_of_the_key(case: Row, write: Write) -> None:
    path = write(*rows_of(case))
    with pytest.raises(InputError) as caught:
        read_feedback([path])
    said = str(caught.value)
    assert said.startswith(f"{path}:{case['says']}")
    assert "\n" not in said and len(said) < 600
    assert ("no known layout" in said) == said.endswith("; docs/feedback.md lists the layouts")


@pytest.mark.parametrize("case", cases("useless"), ids=named)
def test_rows_of_no_use_are_counted_not_fatal(case: Row, write: Write) -> None:
    rows = [case["after"], case["row"]] if "after" in case else [case["row"], case["row"]]
    useful = write({"prompt": "p", "completion": "a"}, name="useful.jsonl")
    report = read_feedback([useful, write(*rows)]).files[1]
    assert dict(report.unusable) == {case["reason"]: [2] if "after" in case else [1, 2]}


every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)


def test_no_layout_is_missing() -> None:
    assert {layout.name for layout in LAYOUTS} == set(FIRST)
    assert len({id(layout) for layout in LAYOUTS}) == len(LAYOUTS)


@pytest.mark.parametrize(
    ("tried", "own"),
    [(LAYOUTS, FAMILIES["data_sets"]), (FAMILIES["frameworks"], FAMILIES["frameworks"])],
    ids=["data sets", "frameworks"],
)
def test_no_other_layout_takes_the_row(tried: Sequence[Layout], own: Sequence[Layout]) -> None:
    """So that the order in which these are tried does not matter."""
    for name in {layout.name for layout in own}:
        assert {layout.name for layout in tried if layout.recognises(FIRST[name])} == {name}


@every_layout
def test_every_key_of_a_layout_is_demanded_of_every_row(write: Write, layout: Layout) -> None:
    """Which an example has; a later row that lacks one is refused, and so is one that is then of another layout."""
    row = next(one["row"] for one in EXAMPLES if one["layout"] == layout.name and set(layout.keys) <= set(one["row"]))
    assert layout.recognises(row)
    for key in layout.keys:
        less = {name: value for name, value in row.items() if name != key}
        with refused(rf"data\.jsonl:2: {re.escape(key)}: the key is missing"):
            read_feedback([write(row, less)])


def test_a_call_that_never_closes(convert: Convert) -> None:
    turns = [{"from": "human", "value": "2 + 2 ="}, {"from": "function_call", "value": "[" * 100_000}]
    with refused(r"conversations\[1\].value: found text '\[\[.*, expected the call of a"):
        convert(conversations=turns)


def test_a_tie_compares_nothing_though_one_side_alone_is_acceptable(convert: Convert) -> None:
    example = convert(**{**FIRST["open-instruct human evaluation"], "preference": "tie"})
    assert isinstance(views.pairs(example), Discarded) and isinstance(views.rankings(example), Discarded)
    group = views.points(example)
    assert isinstance(group, Group) and len(group.responses) == 2


@pytest.mark.parametrize("name", [layout.name for layout in LAYOUTS if layout.not_kept])
def test_what_an_example_does_not_hold_is_said(name: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(FIRST[name])
    (report,) = read_feedback([path]).files
    line = f"{path}: not kept: {report.not_kept}"
    assert report.not_kept and line in report.lines()
    assert run(["convert", str(path), "--to", "canonical", "--output", "-"]) == 0
    assert line in capsys.readouterr().err.splitlines()
    assert run(["inspect", str(path)]) in (0, 2)
    assert "  " + line in capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_the_pages_of_layouts_are_current_and_list_every_layout(tmp_path: Path) -> None:
    """The rows that they show are those of this file, read by the program."""
    folder = PAGE.with_name("layouts")
    subprocess.run([sys.executable, PAGE.with_name("layouts_page.py"), tmp_path], check=True)
    pages = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert pages == {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    text, feedback = "".join(pages.values()), PAGE.read_text("utf-8")
    for layout in LAYOUTS:
        keys = ", ".join(f"`{key}`" for key in layout.keys)
        assert f"| {layout.name} | {keys} | {layout.meaning} |" in text
    assert all(f"(layouts/{name})" in feedback for name in pages)


def test_docs_show_canonical_lines_that_are_read(write: Write) -> None:
    lines = PAGE.read_text("utf-8").split("```json\n")[1].split("```")[0]
    (report,) = read_feedback([write(raw=lines.encode())]).files
    assert (report.layout, report.examples, dict(report.unused_keys)) == ("canonical", 3, {})
