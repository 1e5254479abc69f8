"""Every fault of a row in a layout of another training framework, by its message: one line with the path of the key."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trueup.errors import InputError
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example

Write = Callable[..., Path]
Convert = Callable[..., Example]
Row = dict[str, object]

U: Row = {"role": "user", "content": "2 + 2 ="}
A: Row = {"role": "assistant", "content": "4"}
BOT: Row = {"role": "bot", "content": "4"}
HUMAN: Row = {"from": "human", "value": "2 + 2 ="}
GPT: Row = {"from": "gpt", "value": "4"}


def alpaca(**row: object) -> Row:
    """A row of alpaca."""
    return {"instruction": "2 + 2 =", "output": "4", **row}


def called(value: object) -> Row:
    """A row of sharegpt with a call of a tool."""
    return {"conversations": [HUMAN, {"from": "function_call", "value": value}]}


ONE_CALL = r"the call of a tool as JSON, \{\"name\": ..., \"arguments\": \{...\}\}"

FAULTS: list[tuple[Row, str]] = [
    (alpaca(instruction=None), "instruction: found null, expected text"),
    (alpaca(output=["4", "5"]), "output: found a list of 2, expected text"),
    (alpaca(input=3), "input: found the number 3, expected text"),
    (alpaca(system=["x"]), "system: found a list of 1, expected text"),
    (alpaca(history="Hello"), "history: found text 'Hello', expected a list of rounds"),
    (alpaca(history=["Hello"]), r"history\[0\]: found text 'Hello', expected a list of two texts"),
    (
        alpaca(history=[["a", "b"], ["Hello"]]),
        r"history\[1\]: found a list of 1, expected two texts: what was asked",
    ),
    (alpaca(history=[["Hello", None]]), r"history\[0\]\[1\]: found null, expected text"),
    (alpaca(kto_tag="yes"), "kto_tag: found text 'yes', expected true, false or a number from 0 to 1"),
    (alpaca(label=2), "label: found the number 2, expected true, false or a number from 0 to 1"),
    (alpaca(source=1), "source: found the number 1, expected text"),
    (alpaca(tools="["), r"tools: found text '\[', expected a list of JSON schemas"),
    ({"instruction": "a", "chosen": "4", "rejected": None}, "rejected: found null, expected text"),
    ({"conversations": None}, "conversations: found null, expected a list of turns"),
    ({"conversations": ["x"]}, r"conversations\[0\]: found text 'x', expected an object"),
    ({"conversations": [{"value": "x"}]}, r"conversations\[0\].from: the key is missing; the row has value"),
    (
        {"conversations": [{"from": "human"}]},
        r"conversations\[0\].value: the key is missing; the row has from",
    ),
    (
        {"conversations": [{"role": "user"}]},
        r"conversations\[0\].content: the key is missing; the row has role",
    ),
    (
        {"conversations": [{"from": 1, "value": "x"}]},
        r"conversations\[0\].from: found the number 1, expected text",
    ),
    (
        {"conversations": [HUMAN, {**GPT, "value": None}]},
        r"conversations\[1\].value: found null, expected text",
    ),
    (
        {"conversations": [{"from": "narrator", "value": "x"}]},
        r"conversations\[0\].from: found text 'narrator', expected one of system, human, user, gpt, ",
    ),
    (
        {"conversations": [{"from": "humans", "value": "x"}]},
        r"conversations\[0\].from: .*; did you mean 'human'\?",
    ),
    (
        {"conversations": [{"from": "human", "value": [{"type": "image"}]}]},
        r"conversations\[0\].value\[0\].type: found text 'image', expected 'text'",
    ),
    (
        {"conversations": [HUMAN, {"from": "observation", "value": "4"}, GPT]},
        "conversations: the answer of a tool stands where no turn of the assistant called it",
    ),
    (
        {"conversations": [HUMAN, GPT], "kto_tag": None},
        "kto_tag: found null, expected true, false or a number",
    ),
    (called({"name": "add"}), r"conversations\[1\].value: found an object with the keys name, expected text"),
    (called("add(2)"), r"conversations\[1\].value: found text 'add\(2\)', expected " + ONE_CALL),
    (called('{"name": 3}'), r"conversations\[1\].value: found .*, expected " + ONE_CALL),
    (called('["add"]'), r"conversations\[1\].value: found .*, expected " + ONE_CALL),
    (called("[]"), r"conversations\[1\].value: found text '\[\]', expected at least one call of a tool"),
    (called("[" * 100_000), r"conversations\[1\].value: found text '\[\[.*, expected " + ONE_CALL),
    (
        {"conversations": [HUMAN], "chosen": ["4"], "rejected": GPT},
        "chosen: found a list of 1, expected an object",
    ),
    ({"conversations": [HUMAN], "chosen": GPT, "rejected": None}, "rejected: found null, expected an object"),
    (
        {"conversations": [HUMAN], "chosen": {"from": "gpt"}, "rejected": GPT},
        "chosen.value: the key is missing",
    ),
    (
        {"conversations": [HUMAN], "chosen": GPT, "rejected": HUMAN},
        "rejected: found an object with the keys from, value, expected a turn of the assistant",
    ),
    ({"messages": [U], "chosen": A, "rejected": "5"}, "rejected: found text '5', expected an object"),
    (
        {"messages": [U], "chosen": A, "rejected": [U]},
        r"rejected\[0\].role: found text 'user', expected an as",
    ),
    (
        {"messages": [U], "chosen": U, "rejected": A},
        r"chosen\[0\].role: found text 'user', expected an assistant or tool turn",
    ),
    (
        {"messages": [{"role": "human", "content": "x"}, A], "kto_tag": True},
        r"messages\[0\].role: found text 'human', expected one of system, user, .*; did you mean 'user'\?",
    ),
    ({"question": "a", "response_j": "b", "response_k": None}, "response_k: found null, expected text"),
    (
        {"messages": [U, A], "rejected_response": None},
        "rejected_response: found null, expected text or a list of mess",
    ),
    (
        {"messages": [U, A], "rejected_response": [U]},
        r"rejected_response\[0\].role: found text 'user', expected an as",
    ),
    (
        {"messages": [U, A], "rejected_messages": [U, {"role": "gpt", "content": "x"}]},
        r"rejected_messages\[1\].role: found text 'gpt', expected one of system, user, assistant, tool",
    ),
    (
        {"messages": [U, {"role": "tool_call", "content": "x"}], "label": True},
        r"messages\[1\].content: found text 'x', expected " + ONE_CALL,
    ),
    ({"messages": [U], "solution": 4}, "solution: found the number 4, expected text"),
    ({"query": 1, "response": "4"}, "query: found the number 1, expected text"),
    ({"query": "a", "response": "4", "label": None}, "label: found null, expected true, false"),
    (
        {"query": "a", "response": "4", "rejected_response": None},
        "rejected_response: found null, expected text",
    ),
    (
        {"query": "a", "response": "4", "history": [[1, "b"]]},
        r"history\[0\]\[0\]: found the number 1, expected text",
    ),
    (
        {"conversation": [{"human": "a", "assistant": "b"}, {"human": "a"}]},
        r"conversation\[1\].assistant: the key is missing",
    ),
    (
        {"conversation": [{"assistant": "b"}]},
        r"conversation\[0\].human: the key is missing; the row has assistant",
    ),
    (
        {"conversation": [{"human": 1, "assistant": "b"}]},
        r"conversation\[0\].human: found the number 1, expected text",
    ),
    (
        {"prompt": "a", "chosen_response": "b", "rejected_response": [A]},
        "rejected_response: found a list of 1, expected text, because the prompt is text",
    ),
    (
        {"prompt": "a", "chosen_response": "b", "rejected_response": "c", "chosen_reward": "1"},
        "chosen_reward: found text '1', expected a finite number",
    ),
    ({"context": "a", "completions": []}, "context: found text 'a', expected a list of messages"),
    ({"context": [U], "completions": [A]}, r"completions\[0\].rank: the key is missing"),
    ({"context": [U], "completions": [{"rank": 0}]}, r"completions\[0\].completion: the key is missing"),
    (
        {"context": [U], "completions": [{"rank": -1, "completion": [A]}]},
        r"completions\[0\].rank: found the number -1, expected a whole number of at least 0",
    ),
    (
        {"context": [U], "completions": [{"rank": "best", "completion": [A]}]},
        r"completions\[0\].rank: found text 'best', expected a finite number",
    ),
    (
        {"context": [U], "completions": [{"rank": 0, "completion": [U]}]},
        r"completions\[0\].completion\[0\].role: found text 'user', expected an assistant",
    ),
    ({"input": "a", "output": None}, "output: found null, expected text or a list of messages"),
    ({"input": "a", "output": "b", "reward": None}, "reward: found null, expected a finite number"),
    ({"prompt": "a", "output": "b", "label": -1}, "label: found the number -1, expected true, false"),
    ({"input": "a", "chosen": "b", "rejected": 3}, "rejected: found the number 3, expected text or a list"),
    (
        {"question": "a", "response_chosen": [A], "response_rejected": "b"},
        "response_chosen: found a list of 1, expec",
    ),
    (
        {"context": [BOT], "answer_w": BOT, "answer_l": U},
        "answer_l: found an object .*, expected a turn of the assis",
    ),
    ({"context": [U], "answer_w": BOT, "answer_l": None}, "answer_l: found null, expected an object"),
    (
        {"context": [{"role": "gpt", "content": "a"}], "answer_w": BOT, "answer_l": BOT},
        r"context\[0\].role: found text 'gpt', expected one of system, user, bot, assistant, tool",
    ),
    ({"context": [U], "answer": BOT, "is_desirable": None}, "is_desirable: found null, expected true, false"),
    ({"messages": [U, BOT], "label": 1}, "label: a label of a turbo-alignment conversation is its class"),
    (
        {"messages": [U], "answers": [{"content": 4}]},
        r"answers\[0\].content: found the number 4, expected text",
    ),
    (
        {"messages": [U], "answers": [{"content": "4"}], "rewards": {"0": 1}},
        r"answers\[0\].id: the key is missing",
    ),
    (
        {"messages": [U], "answers": [{"id": "0", "content": "4"}], "rewards": {"0": 1, "1": 2}},
        "rewards.1: no answer with this id is left",
    ),
    (
        {"messages": [U], "answers": [{"id": "0", "content": "4"}], "rewards": {"0": None}},
        "rewards.0: found null, expected a finite number",
    ),
    (
        {"messages": [U], "answers": [{"id": "0", "content": "4"}], "rewards": [1]},
        "rewards: found a list of 1, expec",
    ),
]


@pytest.mark.parametrize(("row", "message"), FAULTS, ids=range(len(FAULTS)))
def test_faults_are_one_line_with_the_path_of_the_key(convert: Convert, row: Row, message: str) -> None:
    with pytest.raises(InputError, match=r"/data\.jsonl:1: " + message) as caught:
        convert(**row)
    assert "\n" not in str(caught.value)


LATER: list[tuple[Row, Row, str]] = [
    (
        alpaca(),
        {"instruction": "a"},
        "2: output: the key is missing; .* taken for LLaMA-Factory alpaca from its first",
    ),
    (alpaca(), alpaca(label=True), "2: label: this key makes the row one of another layout"),
    (
        {"input": "a", "output": "b"},
        {"input": "a", "output": "b", "reward": 1},
        "2: reward: this key makes the row",
    ),
    (
        {"messages": [U, A]},
        {"messages": [U, A], "rejected_response": "5"},
        "2: rejected_response: this key makes",
    ),
    (
        {"input": "a", "chosen": "b", "rejected": "c"},
        {"input": "a", "chosen": "b", "rejected": "c", "instruction": "d"},
        "2: instruction: this key makes the row one of another layout",
    ),
    ({"messages": [U, BOT]}, {"messages": [U, GPT]}, r"2: messages\[1\].role: the key is missing"),
    (
        {"conversations": [HUMAN, GPT]},
        {"messages": [U, A]},
        "2: conversations: the key is missing; the row has messages",
    ),
]


@pytest.mark.parametrize(("first", "later", "message"), LATER, ids=range(len(LATER)))
def test_a_later_row_of_another_layout(write: Write, first: Row, later: Row, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_feedback([write(first, later)])


@pytest.mark.parametrize(
    ("role", "ours"), [("human", "user"), ("gpt", "assistant"), ("model", "assistant"), ("bot", "assistant")]
)
def test_roles_of_other_formats_stay_refused_in_our_own(convert: Convert, role: str, ours: str) -> None:
    with pytest.raises(
        InputError, match=rf"prompt\[0\].role: found text '{role}', .*; did you mean '{ours}'\?"
    ):
        convert(prompt=[{"role": role, "content": "x"}], chosen="a", rejected="b")


NEAR: list[tuple[Row, str]] = [
    (
        {"instructions": "a", "output": "b"},
        "nearest are LLaMA-Factory alpaca: did you mean 'instruction' where it says",
    ),
    ({"instruction": "a", "output": "b", "rejected": "c"}, "LLaMA-Factory alpaca would not have 'rejected'"),
    ({"context": [U], "answer_w": BOT}, "turbo-alignment pairs would need 'answer_l'"),
    ({"question": "a", "response_j": "b"}, "Stack Exchange pairs would need 'response_k'"),
    (
        {"question": "a", "answer": "b"},
        "'prompt' where it says 'question' and 'completion' where it says 'answer'",
    ),
    (
        {"conversation": [HUMAN, GPT]},
        "nearest are messages: did you mean 'messages' where it says 'conversation'",
    ),
    ({"conversations": [HUMAN], "rejected": "c"}, "; sharegpt would not have 'rejected'"),
    ({"messages": [U], "rejected": A}, "; messages would not have 'rejected'"),
    (
        {"prompt": "a", "output": "b", "score": 1},
        "TRL prompts with scored completions: did you mean 'completion' where",
    ),
]


@pytest.mark.parametrize(("row", "message"), NEAR, ids=range(len(NEAR)))
def test_near_misses_are_named(convert: Convert, row: Row, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        convert(**row)
    assert "docs/feedback.md lists the layouts" in str(caught.value)
