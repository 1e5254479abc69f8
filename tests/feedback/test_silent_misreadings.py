"""Rows that could be read as something they do not say: each is read as what it says, counted, or refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trueup.errors import InputError
from trueup.feedback.layouts.known import LAYOUTS
from trueup.feedback.layouts.layout import JUDGEMENTS
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Comparison, Content, Example, Message, Response
from trueup.feedback.turns import is_learned

Write = Callable[..., Path]
Convert = Callable[..., Example]
Row = dict[str, object]

U, A, W = (
    {"role": r, "content": c} for r, c in (("user", "2 + 2 ="), ("assistant", "4"), ("assistant", "5"))
)
S = {"role": "system", "content": "Be short."}
HUMAN, GPT = {"from": "human", "value": "2 + 2 ="}, {"from": "gpt", "value": "4"}
SYSTEM, ASK, RIGHT, WRONG = (Message(str(one["role"]), str(one["content"])) for one in (S, U, A, W))
CALL = {"role": "tool_call", "content": '{"name": "add"}'}


def refused(convert: Convert, row: Row) -> str:
    """The one line with which a row is refused."""
    with pytest.raises(InputError) as caught:
        convert(**row)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def not_used(write: Write, row: Row) -> list[str]:
    """Why a row is not used."""
    useful = write({"prompt": "p", "completion": "a"}, name="useful.jsonl")
    return list(read_feedback([useful, write(row)]).files[1].unusable)


# Judgements


@pytest.mark.parametrize("key", ["score", "reward", "rating"])
@pytest.mark.parametrize(
    ("row", "prompt", "said"),
    [({"prompt": "p", "completion": "a"}, "p", "a"), ({"messages": [U, A]}, (ASK,), (RIGHT,))],
    ids=["completion", "messages"],
)
def test_scores_are_scores(convert: Convert, key: str, row: Row, prompt: Content, said: Content) -> None:
    example = convert(**row, **{key: -2})
    assert (example.prompt.content, example.responses) == (prompt, (Response(said, score=-2.0),))
    assert f": {key}: found text 'good', expected a finite number" in refused(convert, {**row, key: "good"})
    assert f": {key}: found null, expected a finite number" in refused(convert, {**row, key: None})


@pytest.mark.parametrize("key", ["label", "kto_tag", "is_desirable", "is_correct"])
@pytest.mark.parametrize(
    ("row", "said"), [({"prompt": [U], "completion": "4"}, (RIGHT,)), ({"messages": [U, A]}, (RIGHT,))]
)
def test_labels_are_labels(convert: Convert, key: str, row: Row, said: Content) -> None:
    assert convert(**row, **{key: False}).responses == (Response(said, label=0.0),)
    assert f": {key}: found the number 2, expected true, false" in refused(convert, {**row, key: 2})


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


@pytest.mark.parametrize("row", SHOWN, ids=lambda row: " ".join(row))
@pytest.mark.parametrize("key", JUDGEMENTS)
@pytest.mark.parametrize("value", [0.25, None, False, "a"])
def test_what_is_judged_is_never_simply_imitated(write: Write, row: Row, key: str, value: object) -> None:
    """Neither in the first row nor in a later one."""
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


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"instruction": "i", "output": "o", "score": 1}, "score"),
        ({"query": "q", "response": "r", "rejected": "x"}, "rejected"),
        ({"conversations": [HUMAN, GPT], "rating": 1}, "rating"),
        ({"prompt": "p", "completion": "a", "rank": 1}, "rank"),
        ({"messages": [U, A], "scores": [1]}, "scores"),
    ],
)
def test_a_judgement_that_is_not_used_names_its_remedy(
    write: Write, convert: Convert, row: Row, key: str
) -> None:
    remedy = f"'{key}' judges a response: rename the key or leave it out if it does not"
    assert remedy in refused(convert, row)
    first = {one: value for one, value in row.items() if one != key}
    with pytest.raises(
        InputError, match=f":2: {key}: this key makes the row one of another layout"
    ) as caught:
        read_feedback([write(first, row)])
    assert str(caught.value).split("; 2 bad rows")[0].endswith(remedy)


@pytest.mark.parametrize("row", [{"prompt": "p", "completion": "a"}, {"messages": [U, A]}], ids=str)
def test_a_label_among_scores_is_refused(write: Write, row: Row) -> None:
    rows = [{**row, "score": 1}, {**row, "score": 1, "label": True}]
    with pytest.raises(InputError, match=":2: label: this key makes the row one of another layout"):
        read_feedback([write(*rows)])


# System prompts, and other parts of the request

SYSTEM_ROWS: list[Row] = [
    {"prompt": [U], "chosen": [A], "rejected": [W]},
    {"prompt": "2 + 2 =", "chosen": [U, A], "rejected": [U, W]},
    {"chosen": [U, A], "rejected": [U, W]},
    {"prompt": [U], "completion": [A]},
    {"prompt": [U], "completion": [A], "label": True},
    {"prompt": [U], "completion": [A], "score": 1},
    {"prompt": [U], "responses": ["4"], "scores": [1]},
    {"prompt": [U], "responses": [{"content": "4"}]},
    {"messages": [U, A]},
    {"messages": [U, A], "label": True},
    {"messages": [U, A], "rejected_response": "5"},
    {"messages": [U, A], "rejected_messages": [U, W]},
    {"prompt": [U], "chosen_response": "4", "rejected_response": "5"},
    {"context": [U], "completions": [{"rank": 0, "completion": [A]}]},
    {"question": [U], "response_chosen": "4", "response_rejected": "5"},
    {"prompt": [U], "output": "4"},
    {"context": [U], "answer_w": A, "answer_l": W},
    {"messages": [U], "answers": [{"id": "0", "content": "4"}]},
    {"question": "2 + 2 =", "response_j": "4", "response_k": "5"},
    {"conversations": [HUMAN, GPT], "kto_tag": True},
]


@pytest.mark.parametrize("row", SYSTEM_ROWS, ids=lambda row: " ".join(row))
def test_a_system_prompt_stands_before_the_messages(write: Write, row: Row) -> None:
    feedback = read_feedback([write({**row, "system": "Be short."})])
    assert feedback.examples[0].prompt.content == (SYSTEM, ASK)
    assert feedback.files[0].unused_keys == {}
    for nothing in ("", None):
        assert read_feedback([write({**row, "system": nothing})]).examples[0].prompt.content == (ASK,)


def test_a_system_prompt_that_is_there_already_stands_once(convert: Convert) -> None:
    row = {"messages": [S, U, A], "system": "Be short."}
    assert convert(**row).prompt.content == (SYSTEM, ASK)
    said = "system: differs from the system prompt with which the messages begin; keep one of them"
    assert said in refused(convert, {**row, "system": "Be long."})
    shared = {"conversations": [{"from": "system", "value": "Be short."}, HUMAN, GPT], "system": "Be long."}
    assert said in refused(convert, shared)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "completion": "a"},
        {"prompt": "p", "responses": ["a"], "scores": [1]},
        {"prompt": "p", "responses": [{"content": "a"}]},
        {"prompt": "p", "chosen_response": "a", "rejected_response": "b"},
        {"input": "p", "output": "a"},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    ],
    ids=lambda row: " ".join(row),
)
def test_a_system_prompt_before_raw_text_is_refused(convert: Convert, row: Row) -> None:
    assert convert(**row, system="").prompt.content == convert(**row).prompt.content
    assert ": system: a system prompt is for a chat template, but" in refused(
        convert, {**row, "system": "Be short."}
    )


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "history"),
        ({"prompt": [U], "completion": "a"}, "history"),
        ({"prompt": "p", "completion": "a", "label": True}, "context"),
        ({"prompt": "p", "responses": [{"content": "a"}]}, "context"),
        ({"input": "p", "output": "a"}, "context"),
        ({"input": "p", "chosen": "a", "rejected": "b"}, "context"),
        ({"instruction": "p", "output": "a"}, "context"),
        ({"instruction": "p", "output": "a"}, "prompt"),
        ({"instruction": "p", "chosen": "a", "rejected": "b"}, "question"),
        ({"query": "p", "response": "a"}, "context"),
        ({"query": "p", "response": "a", "label": True}, "instruction"),
    ],
)
def test_parts_of_the_request_are_not_dropped(convert: Convert, row: Row, key: str) -> None:
    assert f": {key}: a part of what was asked, which " in refused(convert, {**row, key: "x"})
    bare = convert(**row).prompt.content
    assert [convert(**row, **{key: nothing}).prompt.content for nothing in (None, "", [])] == [bare] * 3
    copied = next(iter(row.values()))
    assert convert(**row, **{key: copied}).prompt.content == bare


# Turns that are switched off


OFF: list[Row] = [{"loss": False}, {"disable_loss": True}, {"weight": 0}]


@pytest.mark.parametrize("off", OFF, ids=str)
@pytest.mark.parametrize(
    "row",
    [
        lambda turn: {"messages": [U, turn]},
        lambda turn: {"messages": [U, turn], "is_correct": True},
        lambda turn: {"messages": [U, turn], "kto_tag": True},
        lambda turn: {"messages": [U, turn], "score": 1},
        lambda turn: {"conversations": [U, turn]},
        lambda turn: {"prompt": [U], "completion": [turn]},
        lambda turn: {"prompt": [U], "chosen": [A], "rejected": [turn]},
        lambda turn: {"prompt": [U], "responses": [{"content": [turn]}]},
        lambda turn: {"chosen": [U, turn], "rejected": [U, W]},
    ],
)
def test_responses_that_are_switched_off_are_not_used(
    write: Write, row: Callable[[Row], Row], off: Row
) -> None:
    assert not_used(write, row({**A, **off})) == ["the response is switched off in the loss"]
    assert not_used(write, row({**A, **{key: not value for key, value in off.items()}})) == []


@pytest.mark.parametrize("off", OFF, ids=str)
def test_a_turn_that_is_switched_off_after_a_plain_first_row(write: Write, off: Row) -> None:
    feedback = read_feedback([write({"messages": [U, A]}, {"messages": [U, {**A, **off}]})])
    assert dict(feedback.files[0].unusable) == {"the response is switched off in the loss": (2,)}


@pytest.mark.parametrize("off", OFF, ids=str)
@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_of_a_response_of_several_turns_the_others_are_learned(convert: Convert, key: str, off: Row) -> None:
    content = convert(**{key: [U, {**W, **off}, A]}).responses[0].content
    assert [(one.content, is_learned(one)) for one in content if isinstance(one, Message)] == [
        ("5", False),
        ("4", True),
    ]


# Prompts: repeated, ended, and of another kind than the sides


@pytest.mark.parametrize("keys", [("prompt", "chosen", "rejected"), ("input", "chosen", "rejected"),
                                  ("question", "response_chosen", "response_rejected"),
                                  ("prompt", "chosen_response", "rejected_response")])  # fmt: skip
def test_text_sides_that_repeat_the_prompt(write: Write, keys: tuple[str, str, str]) -> None:
    def read(*values: str) -> list[Content]:
        (example,) = read_feedback([write(dict(zip(keys, values, strict=True)))]).examples
        assert example.comparisons == (Comparison(0, 1),)
        return [example.prompt.content, *(one.content for one in example.responses)]

    assert read("2 + 2 =", "2 + 2 = 4", "2 + 2 = 5") == ["2 + 2 =", " 4", " 5"]
    assert read("2 + 2 =", "2 + 2 = 4", "5") == ["2 + 2 =", "2 + 2 = 4", "5"]
    assert read("2 + 2 =", "4", "2 + 2 = 5") == ["2 + 2 =", "4", "2 + 2 = 5"]
    assert read("", "4", "5") == ["", "4", "5"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [U, A], "chosen": [W], "rejected": [A]},
        {"prompt": [U, A], "chosen": [U, A, W], "rejected": [U, A, A]},
        {"prompt": [U, A], "completion": "x"},
        {"prompt": [U, A], "completion": "x", "label": True},
        {"prompt": [U, A], "completion": "x", "score": 1},
        {"prompt": [U, A], "responses": ["x"], "scores": [1]},
        {"prompt": [U, A], "output": "x"},
        {"prompt": [U, A], "chosen_response": "x", "rejected_response": "y"},
        {"question": [U, A], "response_chosen": "x", "response_rejected": "y"},
        {"context": [U, A], "completions": [{"rank": 0, "completion": [A]}]},
    ],
    ids=lambda row: " ".join(row),
)
def test_a_prompt_that_ends_with_a_turn_of_the_assistant_is_not_used(write: Write, row: Row) -> None:
    assert not_used(write, row) == ["the prompt ends with a turn of the assistant"]


def test_an_implied_prompt_ends_with_a_request(convert: Convert) -> None:
    example = convert(chosen=[U, A, A], rejected=[U, A, W])
    assert example.prompt.content == (ASK,)
    assert [one.content for one in example.responses] == [(RIGHT, RIGHT), (RIGHT, WRONG)]


def test_a_text_prompt_before_turns_of_the_assistant_is_a_turn_of_the_user(convert: Convert) -> None:
    example = convert(prompt="2 + 2 =", chosen=[A], rejected=[W], system="Be short.")
    assert (example.prompt.content, [one.content for one in example.responses]) == (
        (SYSTEM, ASK),
        [(RIGHT,), (WRONG,)],
    )
    for row in (
        {"chosen": [A], "rejected": "5"},
        {"chosen": [A], "rejected": [U]},
        {"chosen": [U, A], "rejected": [W]},
    ):
        assert "expected text, because the prompt is text" in refused(convert, {"prompt": "2 + 2 =", **row})


# First rows


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
    with pytest.raises(
        InputError, match=rf"a\.csv:2: {key}: the field is empty, and the layout is recognised"
    ):
        read_feedback([write(raw=raw.encode(), name="a.csv")])


def test_an_empty_field_is_not_blamed_for_an_unknown_layout(write: Write) -> None:
    with pytest.raises(InputError, match="no known layout has the keys of this row"):
        read_feedback([write(raw=b"a,b\n,x\n", name="a.csv")])


@pytest.mark.parametrize("role", ["tool_call", "tool_response"])
def test_a_role_of_ms_swift_in_a_later_row_names_the_remedy(write: Write, role: str) -> None:
    rows = [{"messages": [U, A]}, {"messages": [U, {"role": role, "content": "{}"}]}]
    with pytest.raises(
        InputError, match=r":2: messages\[1\].role: .* is read as ms-swift's, so put this row first"
    ):
        read_feedback([write(*rows)])


def test_the_best_rank_scores_zero_and_not_minus_zero(convert: Convert) -> None:
    example = convert(
        context=[U], completions=[{"rank": 0, "completion": [A]}, {"rank": 1, "completion": [W]}]
    )
    assert [one.score for one in example.responses] == [0.0, -1.0]
    assert str(example.responses[0].score) == "0.0"
