"""Rows that could be read as something they do not say; most of them are in the files of `support/layout_rows.py`."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.refusals import refused

from trueup.errors import InputError
from trueup.feedback.layouts.known import LAYOUTS
from trueup.feedback.layouts.layout import JUDGEMENTS
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example, Message
from trueup.feedback.turns import LONGEST, holds_messages, is_learned, python_value

Write = Callable[..., Path]
Convert = Callable[..., Example]
Row = dict[str, object]

U, A, W = ({"role": r, "content": c} for r, c in (("user", "2 + 2 ="), ("assistant", "4"), ("assistant", "5")))
HUMAN, GPT = {"from": "human", "value": "2 + 2 ="}, {"from": "gpt", "value": "4"}
CALL = {"role": "tool_call", "content": '{"name": "add"}'}


SHOWN: list[Row] = [
    {"prompt": "p", "completion": "a"},
    {"messages": [U, A]},
    {"instruction": "i", "output": "o"},
    {"conversations": [HUMAN, GPT]},
    {"query": "q", "response": "r"},
    {"conversation": [{"human": "a", "assistant": "b"}]},
    {"prompt": "p", "output": "o"},
    {"input": "p", "output": "o"},
    {"messages": [U, {"role": "bot", "content": "4"}]},
    {"messages": [U, CALL]},
    {"messages": [U], "solution": "4"},
]


def class_of_turbo(row: Row, key: str) -> bool:
    """Whether a key is the class of a conversation of turbo-alignment, which says nothing of a response."""
    return key == "label" and "bot" in json.dumps(row)


@pytest.mark.slow
@pytest.mark.parametrize("row", SHOWN, ids=lambda row: " ".join(row))
@pytest.mark.parametrize("key", JUDGEMENTS)
@pytest.mark.parametrize("value", [0.25, None, False, "a"])
def test_what_is_judged_is_never_simply_imitated(write: Write, row: Row, key: str, value: object) -> None:
    assert read_feedback([write(row)]).examples[0].responses[0].demonstration
    for rows in ([{**row, key: value}], [row, {**row, key: value}]):
        try:
            examples = read_feedback([write(*rows)]).examples
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert len(rows) == 1 or class_of_turbo(row, key)
            assert not any(one.responses[0].demonstration for one in examples) or class_of_turbo(row, key)


def test_every_layout_of_demonstrations_in_general_form_refuses_judgements() -> None:
    for layout in LAYOUTS:
        if layout.meaning.startswith("A demonstration"):
            assert {*JUDGEMENTS} - {*layout.foreign} <= {"label"}, layout.name


@pytest.mark.parametrize("off", [{"loss": False}, {"disable_loss": True}, {"weight": 0}], ids=str)
@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_of_a_response_of_several_turns_the_others_are_learned(convert: Convert, key: str, off: Row) -> None:
    content = convert(**{key: [U, {**W, **off}, A]}).responses[0].content
    assert [(one.content, is_learned(one)) for one in content if isinstance(one, Message)] == [
        ("5", False),
        ("4", True),
    ]


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ("prompt,completion\n,a\nq,b\n", "prompt"),
        ("prompt,chosen,rejected\np,,b\n", "chosen"),
        ("prompt,completion,label\np,,1\n", "completion"),
        ("prompt,completion\n,\n", "prompt"),
    ],
)
def test_an_empty_field_in_the_first_row_of_csv(write: Write, raw: str, key: str) -> None:
    with refused(rf"a\.csv:2: {key}: the field is empty, and the first row tells"):
        read_feedback([write(raw=raw.encode(), name="a.csv")])


def test_an_empty_field_is_not_blamed_for_an_unknown_layout(write: Write) -> None:
    with refused("no known layout has the keys of this row"):
        read_feedback([write(raw=b"a,b\n,x\n", name="a.csv")])


# Messages that were written as text: refused in JSON, read in CSV, and told from other text.

ASK, RIGHT, WRONG = (Message(one["role"], one["content"]) for one in (U, A, W))


@pytest.mark.parametrize(
    "text",
    [
        '[{"from": "Paris", "to": "Rome"}]',
        "[{'role': 'admin'}]",
        '{"role": "admin"}',
        "[role, content]",
        "[]",
        "the role of [content]",
        '["role", "content"]',
        '[{"role": "user", "content": "a"}] What is this?',
        "[{'role': 'user', 'content': '\\d'",
        "[" * 5000 + "role",
        str([{"role": "user", "content": "a" * LONGEST}]),
    ],
    ids=range(11),
)
def test_other_text_stays_text(convert: Convert, text: str) -> None:
    assert convert(prompt=text, completion="a").prompt.content == text


@given(st.text(alphabet="[]{}'\"role: content,\\n1", max_size=40))
def test_any_text_is_told_apart(text: str) -> None:
    assert holds_messages(text) in (True, False)
    value = python_value(text)
    assert value is None or isinstance(value, list | dict)


@pytest.mark.parametrize("form", [json.dumps, str])
def test_csv_reads_them_as_the_list(write: Write, form: Callable[[object], str]) -> None:
    turns = [{"role": "user", "content": 'it\'s "2"'}, {"role": "assistant", "content": "4", "weight": None}]

    def quoted(value: object) -> str:
        return '"' + form(value).replace('"', '""') + '"'

    path = write(raw=f"messages\n{quoted(turns)}\n".encode(), name="a.csv")
    (example,) = read_feedback([path]).examples
    assert example.prompt.content == (Message("user", 'it\'s "2"'),)
    assert example.responses[0].content == (Message("assistant", "4", {"weight": None}),)
    pairs = f"prompt,chosen,rejected\n{quoted([U])},{quoted([A])},{quoted([W])}\n"
    (example,) = read_feedback([write(raw=pairs.encode(), name="b.csv")]).examples
    assert (example.prompt.content, [one.content for one in example.responses]) == ((ASK,), [(RIGHT,), (WRONG,)])


def test_csv_reads_them_among_texts(write: Write) -> None:
    path = write(raw=f'prompt,completion\np,a\n"{[U]}",c\n'.encode(), name="a.csv")
    last = read_feedback([path]).examples[-1]
    assert not isinstance(last.prompt.content, str) and not isinstance(last.responses[0].content, str)


def test_what_python_prints_is_what_json_has() -> None:
    assert python_value("[{1: (2, True, None)}]") == [{"1": [2, True, None]}]
    assert [python_value(one) for one in ("[b'a']", "[{1, 2}]", "[f()]", "'a'", "[1", "3", "[x]")] == [None] * 7
    (infinite,) = python_value("[1e999]")  # type: ignore[misc,attr-defined]
    assert math.isinf(infinite)
