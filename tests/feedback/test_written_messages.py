"""Messages that somebody wrote as text: refused in JSON, read in CSV, and told from other text."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import InputError
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example, Message
from trueup.feedback.turns import LONGEST, holds_messages, python_value

Write = Callable[..., Path]
Convert = Callable[..., Example]
Row = dict[str, object]

U, A, W = (
    {"role": r, "content": c} for r, c in (("user", "2 + 2 ="), ("assistant", "4"), ("assistant", "5"))
)
HUMAN = {"from": "human", "value": "2 + 2 ="}
ASK, RIGHT, WRONG = (Message(one["role"], one["content"]) for one in (U, A, W))

WRITTEN = [json.dumps([U]), json.dumps([U], indent=1), str([U]), f" {[HUMAN]} ", str(U), "[{'role': 'user', "
           "'content': 'a'}\n {'content': 'b', 'role': 'user'}]"]  # fmt: skip


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
    assert (example.prompt.content, [one.content for one in example.responses]) == (
        (ASK,),
        [(RIGHT,), (WRONG,)],
    )


def test_csv_refuses_them_among_texts(write: Write) -> None:
    path = write(raw=f'prompt,completion\np,a\nq,b\n"{[U]}",c\n'.encode(), name="a.csv")
    with pytest.raises(
        InputError, match=r"a\.csv:4: prompt: found messages written as text; write them as a l"
    ):
        read_feedback([path])


def test_what_python_prints_is_what_json_has() -> None:
    assert python_value("[{1: (2, True, None)}]") == [{"1": [2, True, None]}]
    assert [python_value(one) for one in ("[b'a']", "[{1, 2}]", "[f()]", "'a'", "[1", "3", "[x]")] == [
        None
    ] * 7
    (infinite,) = python_value("[1e999]")  # type: ignore[misc,attr-defined]
    assert math.isinf(infinite)
