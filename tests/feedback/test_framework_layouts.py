"""The layouts of other training frameworks: every one by value, its name in the report, and what it leaves out."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.framework_rows import (
    BAD,
    BOT,
    CALL,
    CALLS,
    CASES,
    GPT,
    HUMAN,
    RESULT,
    RIGHT,
    WRITTEN,
    A,
    Turn,
    U,
    W,
    said,
)

from trueup.feedback.layouts import frameworks
from trueup.feedback.layouts.known import LAYOUTS
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example, Message, Response

Write = Callable[..., Path]
Convert = Callable[..., Example]


@pytest.mark.parametrize(
    ("name", "row", "expected"), CASES, ids=[f"{i}-{one[0]}" for i, one in enumerate(CASES)]
)
def test_layout_by_value_and_by_name(write: Write, name: str, row: Turn, expected: Example) -> None:
    feedback = read_feedback([write(row)])
    (example,) = feedback.examples
    (report,) = feedback.files
    assert report.layout == name
    made = (example.prompt.content, example.responses, example.comparisons, example.prompt.tools)
    assert made == (expected.prompt.content, expected.responses, expected.comparisons, expected.prompt.tools)
    assert set(report.unused_keys) <= {"label"}


def test_every_layout_of_frameworks_has_a_case() -> None:
    shown = {(name, key) for name, row, _ in CASES for key in row}
    for layout in frameworks.LAYOUTS:
        assert {(layout.name, key) for key in layout.keys} <= shown, layout.name


def test_no_row_fits_two_layouts_of_frameworks() -> None:
    for name, row, _ in CASES:
        assert [one.name for one in frameworks.LAYOUTS if one.recognises(row)] == [name]


def test_what_is_neither_a_key_nor_used_is_named(write: Write) -> None:
    path = write({"instruction": "a", "output": "b", "images": ["cat.png"], "inputs": "x"})
    (report,) = read_feedback([path]).files
    assert dict(report.unused_keys) == {"images": 1, "inputs": 1}
    assert report.near_keys == {"inputs": "; did you mean 'input'?"}


CALLED: list[tuple[list[Turn], tuple[Message, ...]]] = [
    (
        [said("tool_call", WRITTEN), said("tool_call", '{"name": "add", "arguments": "{\\"a\\": 3}"}')],
        (
            Message(
                "assistant",
                "",
                {
                    "tool_calls": [
                        *CALLS,
                        {"type": "function", "function": {"name": "add", "arguments": {"a": 3}}},
                    ]
                },
            ),
        ),
    ),
    (
        [said("assistant", "I add."), said("tool_call", WRITTEN)],
        (Message("assistant", "I add.", {"tool_calls": CALLS}),),
    ),
    (
        [said("tool_call", f"<think>So.</think>[{WRITTEN}]"), said("tool", "4"), A],
        (Message("assistant", "<think>So.</think>", {"tool_calls": CALLS}), RESULT, RIGHT),
    ),
    (
        [said("tool_call", '{"name": "now", "arguments": "3"}')],
        (
            Message(
                "assistant",
                "",
                {"tool_calls": [{"type": "function", "function": {"name": "now", "arguments": "3"}}]},
            ),
        ),
    ),
    (
        [said("tool_call", '{"name": "now"}')],
        (
            Message(
                "assistant",
                "",
                {"tool_calls": [{"type": "function", "function": {"name": "now", "arguments": {}}}]},
            ),
        ),
    ),
]


@pytest.mark.parametrize(("turns", "response"), CALLED, ids=range(len(CALLED)))
def test_calls_of_tools(convert: Convert, turns: list[Turn], response: tuple[Message, ...]) -> None:
    assert convert(messages=[U, *turns]).responses == (Response(response, demonstration=True),)


def test_a_call_after_the_answer_of_a_tool_is_a_turn_of_its_own(convert: Convert) -> None:
    turns = [said("tool_call", WRITTEN), said("tool", "4"), said("tool_call", WRITTEN), said("tool", "4"), A]
    assert convert(messages=[U, *turns]).responses[0].content == (CALL, RESULT, CALL, RESULT, RIGHT)


def test_text_parts_are_joined_and_further_keys_of_a_turn_kept(convert: Convert) -> None:
    parts = [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2 ="}]
    example = convert(conversations=[{"from": "human", "value": parts, "name": "ann", "weight": None}, GPT])
    assert example.prompt.content == (Message("user", "2 + 2 =", {"name": "ann"}),)


def test_rows_that_have_the_keys_of_several_layouts(write: Write) -> None:
    rows: list[tuple[str, Turn]] = [
        ("TRL pairs", {"prompt": "p", "chosen": "a", "rejected": "b", "input": "x", "instruction": "y"}),
        ("TRL pairs", {"prompt": [U], "chosen": [A], "rejected": [W], "conversations": [], "messages": [U]}),
        ("TRL pairs with an implied prompt", {"messages": [U], "chosen": [U, A], "rejected": [U, W]}),
        ("TRL prompts with completions", {"prompt": "p", "completion": "a", "output": "x"}),
        (
            "ms-swift pairs of conversations",
            {"messages": [U, A], "rejected_messages": [U, W], "rejected_response": "6"},
        ),
        ("messages", {"messages": [U, A], "solution": "4"}),
        ("messages", {"messages": [U, A], "answers": ["4"]}),
        ("messages with a label", {"messages": [U, A], "label": 1}),
    ]
    for name, row in rows:
        assert read_feedback([write(row)]).files[0].layout == name
    assert len({id(layout) for layout in LAYOUTS}) == len(LAYOUTS)


USELESS: list[tuple[Turn, str]] = [
    ({"instruction": " ", "output": "4"}, "the instruction is empty"),
    (
        {"instruction": "", "chosen": "4", "rejected": "5", "history": [["Hello", "Hi"]]},
        "the instruction is empty",
    ),
    ({"instruction": "2 + 2 =", "output": ""}, "a response is empty"),
    ({"instruction": "2 + 2 =", "chosen": "4", "rejected": " "}, "a response is empty"),
    ({"conversations": []}, "the conversation has no turn of the assistant"),
    ({"conversations": [HUMAN, GPT, HUMAN]}, "the conversation does not end with a turn of the assistant"),
    ({"conversations": [GPT], "kto_tag": True}, "no turn stands before the response"),
    (
        {"conversations": [HUMAN, GPT], "chosen": GPT, "rejected": BAD},
        "the conversation ends with a turn of the assistant, before the two sides",
    ),
    (
        {"messages": [U, A], "chosen": A, "rejected": W},
        "the conversation ends with a turn of the assistant, before the two sides",
    ),
    ({"messages": [U], "rejected_response": "5"}, "the conversation has no turn of the assistant"),
    ({"messages": [U, A], "rejected_response": []}, "a response is empty"),
    (
        {"messages": [U, A], "rejected_messages": [said("user", "x"), W]},
        "the two sides have different prompts",
    ),
    ({"messages": [U, A], "rejected_messages": []}, "a response is empty"),
    (
        {"messages": [U, A], "rejected_messages": [U]},
        "the conversation does not end with a turn of the assistant",
    ),
    ({"messages": [U, {**A, "loss": False}]}, "the response is switched off in the loss"),
    ({"messages": [U, {**BOT, "disable_loss": True}]}, "the response is switched off in the loss"),
    ({"messages": [U, said("bot", " ")]}, "a response is empty"),
    ({"query": "2 + 2 =", "response": ""}, "a response is empty"),
    ({"conversation": [{"human": "2 + 2 =", "assistant": ""}]}, "a response is empty"),
    ({"context": [U], "completions": []}, "the list of completions is empty"),
    ({"context": [], "answer": BOT, "is_desirable": True}, "no turn stands before the response"),
    ({"input": "2 + 2 =", "output": "\n"}, "a response is empty"),
]


@pytest.mark.parametrize(("row", "reason"), USELESS, ids=range(len(USELESS)))
def test_useless_rows_are_counted(write: Write, row: Turn, reason: str) -> None:
    useful = write({"prompt": "p", "completion": "a"}, name="useful.jsonl")
    report = read_feedback([useful, write(row, row)]).files[1]
    assert dict(report.unusable) == {reason: (1, 2)}


def test_useless_rows_after_a_first_one_that_tells_the_layout(write: Write) -> None:
    solved = {"messages": [U], "solution": "4"}
    report = read_feedback([write(solved, {**solved, "messages": [U, A]})]).files[0]
    assert dict(report.unusable) == {
        "the conversation ends with a turn of the assistant, before the solution": (2,)
    }
    sampled: Turn = {"messages": [U], "answers": [{"id": "0", "content": "4"}]}
    report = read_feedback([write(sampled, {**sampled, "answers": []})]).files[0]
    assert dict(report.unusable) == {"the list of answers is empty": (2,)}
