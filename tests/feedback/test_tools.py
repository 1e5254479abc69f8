"""Tools that a row declares: kept in every layout that has conversations, and passed on to the groups."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trueup.errors import InputError
from trueup.feedback.canonical import example_to_row
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example

Write = Callable[..., Path]
Convert = Callable[..., Example]

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
ASK = {"role": "user", "content": "2 + 2 ="}
RIGHT, WRONG = {"role": "assistant", "content": "4"}, {"role": "assistant", "content": "5"}

ROWS: dict[str, dict[str, Any]] = {
    "canonical": {
        "prompt": [ASK],
        "responses": [{"content": "4"}, {"content": "5"}],
        "comparisons": [{"better": 0, "worse": 1}],
    },
    "pairs": {"prompt": [ASK], "chosen": [RIGHT], "rejected": [WRONG]},
    "implicit pairs": {"chosen": [ASK, RIGHT], "rejected": [ASK, WRONG]},
    "completion": {"prompt": [ASK], "completion": [RIGHT]},
    "labelled completion": {"prompt": [ASK], "completion": [RIGHT], "label": True},
    "messages": {"messages": [ASK, RIGHT]},
    "labelled messages": {"messages": [ASK, RIGHT], "label": False},
    "scored": {"prompt": [ASK], "responses": ["4", "5"], "scores": [1, 0]},
}
every_layout = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


@every_layout
@pytest.mark.parametrize("form", [list, json.dumps], ids=["list", "JSON text"])
def test_every_layout_of_conversations_keeps_tools(
    convert: Convert, row: dict[str, Any], form: Callable[[object], object]
) -> None:
    assert convert(**row, tools=form([ADD, {"name": "sub"}])).prompt.tools == (ADD, {"name": "sub"})


@every_layout
@pytest.mark.parametrize("nothing", [None, [], "", "[]"])
def test_no_tools_are_no_tools(convert: Convert, row: dict[str, Any], nothing: object) -> None:
    example = convert(**row, tools=nothing)
    assert example.prompt.tools == ()
    assert "tools" not in example_to_row(example)
    assert convert(**row).prompt.tools == ()


def test_tools_are_not_reported_as_an_unused_key(write: Write) -> None:
    (report,) = read_feedback([write({**ROWS["pairs"], "tools": [ADD]})]).files
    assert report.unused_keys == {}


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        (
            {"name": "add"},
            "tools: found an object with the keys name, expected a list of JSON schemas of tools",
        ),
        (False, "tools: found false, expected a list of JSON schemas of tools"),
        (["add"], r"tools\[0\]: found text 'add', expected an object"),
        (
            "[{",
            "tools: found text '\\[{', expected a list of JSON schemas of tools, or JSON text that holds one",
        ),
        ('{"name": "add"}', "tools: found an object with the keys name, expected a list of JSON schemas"),
        ('[{"a": 1, "a": 2}]', "tools: the key 'a' stands twice in one object; keep one of them"),
        ('[{"a": NaN}]', r"tools: \[0\].a: found nan; numbers must be finite"),
        ("[] []", r"tools: more text after the end of the list: '\[\]'"),
    ],
)
def test_what_is_not_tools_is_refused(convert: Convert, tools: object, message: str) -> None:
    with pytest.raises(InputError, match=rf"data\.jsonl:1: {message}"):
        convert(**ROWS["pairs"], tools=tools)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2 + 2 =", "responses": [{"content": "4"}]},
        {"prompt": "2 + 2 =", "chosen": "4", "rejected": "5"},
        {"prompt": "2 + 2 =", "completion": "4"},
        {"prompt": "2 + 2 =", "completion": "4", "label": 1},
        {"prompt": "2 + 2 =", "responses": ["4", "5"], "scores": [1, 0]},
    ],
)
def test_raw_text_takes_no_tools(convert: Convert, row: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"data\.jsonl:1: tools: .*raw text.*give the prompt as messages"):
        convert(**row, tools=[ADD])
    assert convert(**row, tools=[]).prompt.tools == ()
