"""Every fault of a row by its message: fields, keys, layouts; and rows that are sound but of no use."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from trueup.errors import InputError
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example

Write = Callable[..., Path]
Convert = Callable[..., Example]

ASK = {"role": "user", "content": "2 + 2 ="}
RIGHT = {"role": "assistant", "content": "4"}
WRONG = {"role": "assistant", "content": "5"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}
RESULT = {"role": "tool", "content": "4", "name": "add"}
H, A = "\n\nHuman:", "\n\nAssistant:"

MESSAGES_FAULTS = [
    ([{"content": "x"}], r"messages\[0\].role: the key is missing; the row has content"),
    ([{"role": "user"}], r"messages\[0\].content: the key is missing; the row has role"),
    (
        [{"role": "user", "contents": "x"}],
        r"messages\[0\].content: the key is missing; found 'contents' instead",
    ),
    ([{"role": "user", "content": None}], r"messages\[0\].content: found null, expected text"),
    ([{"role": "user", "content": 3}], r"messages\[0\].content: found the number 3, expected text"),
    ([{"role": 1, "content": "x"}], r"messages\[0\].role: found the number 1, expected text"),
    (
        [{"role": "model", "content": "x"}],
        r"messages\[0\].role: found text 'model', .*; did you mean 'assistant'\?",
    ),
    ([{"role": "asistant", "content": "x"}], "expected one of system, user, .*did you mean 'assistant'"),
    (["x"], r"messages\[0\]: found text 'x', expected an object"),
    ({"role": "user"}, "1: messages: found an object with the keys role, expected a list of messages"),
    (
        [{"role": "user", "content": [{"type": "image"}]}],
        r"content\[0\].type: found text 'image', expected 'text'",
    ),
    (
        [{"role": "user", "content": [{"type": "text"}]}],
        r"messages\[0\].content\[0\].text: the key is missing",
    ),
    ([{"role": "user", "content": [{"text": "x"}]}], r"messages\[0\].content\[0\].type: the key is missing"),
    ([{"role": "user", "content": [{"type": "text", "text": "", "file": "f"}]}], "nothing but its text"),
    (
        [ASK, RESULT, RIGHT],
        r"messages\[1\].role: found text 'tool', expected an assistant turn: a response begins",
    ),
]


@pytest.mark.parametrize(("messages", "message"), MESSAGES_FAULTS)
def test_faults_of_messages(convert: Convert, messages: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(messages=messages)


FAULTS: list[tuple[dict[str, object], str]] = [
    (
        {"prompt": None, "chosen": "a", "rejected": "b"},
        "1: prompt: found null, expected text or a list of messages",
    ),
    ({"prompt": "p", "chosen": 3, "rejected": "b"}, "1: chosen: found the number 3, expected text or a list"),
    (
        {"prompt": "p", "chosen": "a", "rejected": [WRONG]},
        "1: rejected: found a list of 1, expected text, because",
    ),
    (
        {"prompt": "q", "chosen": [ASK, RIGHT], "rejected": [ASK, WRONG]},
        "chosen: found a list of 2, expected text, be",
    ),
    (
        {"prompt": [ASK], "chosen": [RIGHT], "rejected": [ASK]},
        r"rejected\[0\].role: found text 'user', expected an as",
    ),
    (
        {"prompt": [ASK], "chosen": [RIGHT, RESULT], "rejected": [WRONG]},
        r"chosen\[1\].role: .*begins and ends with one",
    ),
    (
        {"prompt": "p", "chosen": "a", "rejected": "b", "source": 3},
        "1: source: found the number 3, expected text",
    ),
    (
        {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": "8"},
        "score_chosen: found text '8', expected a f",
    ),
    (
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        "would give the prompt 'The sky is bl'; add the",
    ),
    ({"chosen": [ASK, RIGHT], "rejected": "5"}, "rejected: found plain text, and the row has no prompt"),
    (
        {"chosen": [ASK, RIGHT], "rejected": [ASK]},
        r"rejected\[0\].role: found text 'user', expected an assistant turn",
    ),
    ({"chosen": [ASK, RIGHT], "rejected": None}, "rejected: found null, expected a list of messages"),
    (
        {"chosen": f"{H} a{A} b", "rejected": "c"},
        r"rejected: found text 'c', expected a transcript with '\\n\\nHuman:'",
    ),
    ({"chosen": f"{H} a{A} b", "rejected": None}, "rejected: found null, expected text"),
    ({"prompt": "p", "completion": None}, "1: completion: found null, expected text or a list of messages"),
    (
        {"prompt": "p", "completion": "a", "label": None},
        "1: label: found null, expected true, false or a number from",
    ),
    (
        {"prompt": "p", "completion": "a", "label": "yes"},
        "1: label: found text 'yes', expected true, false or a num",
    ),
    (
        {"prompt": "p", "completion": "a", "label": 1.5},
        "1: label: found the number 1.5, expected true, false or a num",
    ),
    (
        {"prompt": "p", "responses": ["a"], "scores": []},
        "1: scores: found a list of 0, expected one for each of the 1",
    ),
    (
        {"prompt": "p", "responses": ["a"], "scores": [None]},
        r"1: scores\[0\]: found null, expected a finite number",
    ),
    (
        {"prompt": "p", "responses": ["a"], "scores": [True]},
        r"1: scores\[0\]: found true, expected a finite number",
    ),
    (
        {"prompt": "p", "responses": ["a"], "scores": [10**400]},
        r"scores\[0\]: found the number with more than 20 digits",
    ),
    (
        {"prompt": "p", "responses": ["a"], "scores": 1},
        "1: scores: found the number 1, expected a list of numbers",
    ),
    (
        {"prompt": "p", "responses": [3], "scores": [1]},
        r"1: responses\[0\]: found the number 3, expected text or a l",
    ),
    (
        {"prompt": "p", "responses": ["a"], "scores": [1], "sources": ["a", "b"]},
        "1: sources: found a list of 2, expec",
    ),
    (
        {"prompt": "p", "responses": ["a"], "scores": [1], "sources": [1]},
        r"1: sources\[0\]: found the number 1, expec",
    ),
    ({"prompt": "p", "responses": []}, "1: responses: found a list of 0, expected at least one response"),
    (
        {"prompt": "p", "responses": "a"},
        r'1: responses: found text \'a\', expected a list of objects {"content": ...}',
    ),
    (
        {"prompt": "p", "responses": ["a"]},
        r'responses\[0\]: found text \'a\', expected an object {"content": ..., "sc',
    ),
    (
        {"prompt": "p", "responses": [{"text": "a"}]},
        r"responses\[0\].text: unknown key \(known: content, score, label",
    ),
    (
        {"prompt": "p", "responses": [{"content": "a", "lable": 1}]},
        r"responses\[0\].lable: .*did you mean 'label'\?",
    ),
    (
        {"prompt": "p", "responses": [{"score": 1}]},
        r"responses\[0\].content: the key is missing; the row has score",
    ),
    (
        {"prompt": "p", "responses": [{"content": "a", "label": -1}]},
        r"responses\[0\].label: found the number -1, exp",
    ),
    (
        {"prompt": "p", "responses": [{"content": "a", "demonstration": 1}]},
        "demonstration: found the number 1, expec",
    ),
    (
        {"prompt": "p", "responses": [{"content": [RIGHT]}]},
        r"responses\[0\].content: found a list of 1, expected text",
    ),
    (
        {"prompt": [ASK], "responses": [{"content": [ASK]}]},
        r"responses\[0\].content\[0\].role: found text 'user'",
    ),
]


@pytest.mark.parametrize(("row", "message"), FAULTS, ids=range(len(FAULTS)))
def test_faults_of_fields(convert: Convert, row: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        convert(**row)
    assert re.match(r"\S*/data\.jsonl:1: ", str(caught.value))


COMPARISON_FAULTS: list[tuple[object, str]] = [
    ({"better": 0}, r"comparisons\[0\].worse: the key is missing; the row has better"),
    ({"better": 0, "worse": 2}, r"comparisons\[0\].worse: found the number 2, expected .*, from 0 to 1"),
    ({"better": -1, "worse": 1}, r"comparisons\[0\].better: found the number -1, expected the position"),
    ({"better": True, "worse": 0}, r"comparisons\[0\].better: found true, expected the position"),
    (
        {"better": 1, "worse": 1},
        r"comparisons\[0\]: a response cannot be preferred to itself; got position 1",
    ),
    ({"better": 1, "worse": 0, "probability": 0.5}, r"comparisons\[0\]: .* must lie in \(0.5, 1\]; got 0.5"),
    ({"better": 1, "worse": 0, "probabilty": 0.9}, r"probabilty: unknown key .*did you mean 'probability'\?"),
    ([0, 1], r"comparisons\[0\]: found a list of 2, expected an object"),
]


@pytest.mark.parametrize(("comparison", "message"), COMPARISON_FAULTS)
def test_faults_of_comparisons(convert: Convert, comparison: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(prompt="p", responses=[{"content": "a"}, {"content": "b"}], comparisons=[comparison])


UNKNOWN: list[tuple[dict[str, object], str]] = [
    (
        {"prompt": "p", "choosen": "a", "rejected": "b"},
        "nearest are TRL pairs: did you mean 'chosen' where it says 'choosen'",
    ),
    ({"prompt": "p", "response": "a"}, r"did you mean 'completion' where it says 'response'\?"),
    (
        {"question": "p", "answer": "a"},
        "'prompt' where it says 'question' and 'completion' where it says 'answer'",
    ),
    (
        {"question": "p", "winner": "a", "loser": "b"},
        "'chosen' where it says 'winner' and 'rejected' where it says 'loser'",
    ),
    ({"prompt": "p", "chosen": "a"}, "TRL pairs would need 'rejected'"),
    (
        {"prompt": "p", "completion": "a", "rejected": "b"},
        "TRL prompts with completions would not have 'rejected'",
    ),
    ({"x": 1, "y": 2}, r"1: no known layout has the keys of this row \(x, y\); known are prompt \+ resp"),
    ({}, r"1: no known layout has the keys of this row \(none\); known are"),
]


@pytest.mark.parametrize(("row", "message"), UNKNOWN)
def test_unknown_keys_name_the_nearest_layout(convert: Convert, row: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        convert(**row)
    said = str(caught.value)
    assert said.endswith("; docs/feedback.md lists the layouts") and len(said) < 450
    assert ("prompt + chosen + rejected" in said) == ("known are" in message)


@pytest.mark.parametrize("key", ["data", "rows"])
def test_rows_that_are_wrapped(key: str, convert: Convert) -> None:
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b"}]
    with pytest.raises(
        InputError, match=f"the rows are wrapped in '{key}': write that list alone, or one of its objects"
    ):
        convert(**{key: rows, "version": 1})
    with pytest.raises(InputError, match="no known layout") as caught:
        convert(**{key: [{"x": 1}], "version": 1})
    assert "rows are wrapped" not in str(caught.value)


@pytest.mark.parametrize("value", [-1, 1.5, "yes", "true"])
def test_labels_say_what_to_write(value: object, convert: Convert) -> None:
    with pytest.raises(InputError, match=r"a number from 0 to 1; write true for good and false for bad$"):
        convert(prompt="p", completion="a", label=value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "p", "completed": "x"},
            "2: completion: the key is missing; found 'completed' instead; the file",
        ),
        (
            {"prompt": "p", "completion": "x", "label": False},
            "2: label: this key makes the row one of another layout",
        ),
    ],
)
def test_a_later_row_of_another_layout(write: Write, row: dict[str, object], message: str) -> None:
    path = write({"prompt": "p", "completion": "a"}, row)
    with pytest.raises(InputError, match=message) as caught:
        read_feedback([path])
    assert "the file was taken for TRL prompts with completions from its first row" in str(caught.value)


USELESS: list[tuple[dict[str, object], str]] = [
    ({"prompt": "p", "chosen": "a", "rejected": ""}, "a response is empty"),
    ({"prompt": "p", "chosen": " \n", "rejected": "b"}, "a response is empty"),
    ({"prompt": [ASK], "chosen": [], "rejected": [WRONG]}, "a response is empty"),
    ({"prompt": [ASK], "completion": [{**RIGHT, "content": " "}]}, "a response is empty"),
    ({"prompt": [], "completion": [RIGHT]}, "no turn stands before the response"),
    ({"chosen": [ASK, RIGHT], "rejected": []}, "a response is empty"),
    ({"chosen": [RIGHT], "rejected": [WRONG]}, "no turn stands before the response"),
    (
        {"chosen": [ASK, RIGHT], "rejected": [{**ASK, "content": "x"}, WRONG]},
        "the two sides have different prompts",
    ),
    ({"chosen": [ASK, RIGHT], "rejected": [ASK, RIGHT, ASK, WRONG]}, "the two sides have different prompts"),
    ({"chosen": f"{H} a{A} b", "rejected": f"{H} a{A} b{H} c{A} d"}, "the two sides have different prompts"),
    ({"chosen": f"{H} a{A} b", "rejected": f"{H} a"}, "the transcript has no turn of the assistant"),
    (
        {"chosen": f"{H} a{A} b{H} c", "rejected": f"{H} a{A} b"},
        "transcript does not end with a turn of the assistant",
    ),
    ({"messages": [ASK]}, "the conversation has no turn of the assistant"),
    ({"messages": []}, "the conversation has no turn of the assistant"),
    ({"messages": [ASK, RIGHT, ASK]}, "the conversation does not end with a turn of the assistant"),
    ({"messages": [ASK, CALL, RESULT]}, "the conversation does not end with a turn of the assistant"),
    ({"messages": [RIGHT]}, "no turn stands before the response"),
    ({"messages": [ASK], "label": True}, "the conversation has no turn of the assistant"),
    ({"prompt": "p", "responses": [], "scores": []}, "the list of responses is empty"),
]


@pytest.mark.parametrize(("row", "reason"), USELESS, ids=range(len(USELESS)))
def test_useless_rows_are_counted_not_fatal(write: Write, row: dict[str, object], reason: str) -> None:
    useful = write({"prompt": "p", "completion": "a"}, name="useful.jsonl")
    feedback = read_feedback([useful, write(row, row)])
    assert len(feedback.examples) == 1
    (found,) = feedback.files[1].unusable.items()
    assert found[0].endswith(reason) and found[1] == (1, 2)
