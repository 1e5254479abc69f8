"""Every layout by value, and every fault of a field by its message."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trueup.feedback.layouts.known import LAYOUTS
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Comparison, Example, Message, Origin, Response

Write = Callable[..., Path]
Convert = Callable[..., Example]

ASK = {"role": "user", "content": "2 + 2 ="}
RIGHT = {"role": "assistant", "content": "4"}
WRONG = {"role": "assistant", "content": "5"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}
RESULT = {"role": "tool", "content": "4", "name": "add"}
ask, right, wrong = (Message(one["role"], one["content"]) for one in (ASK, RIGHT, WRONG))
call = Message("assistant", "", {"tool_calls": [{"name": "add"}]})
result = Message("tool", "4", {"name": "add"})
H, A = "\n\nHuman:", "\n\nAssistant:"
FIRST = (Comparison(0, 1),)


def made(example: Example) -> tuple[object, ...]:
    """An example without its origin."""
    return example.prompt.content, example.responses, example.comparisons


def texts(*contents: object) -> tuple[Response, ...]:
    """Responses of which nothing is known."""
    return tuple(Response(content) for content in contents)  # type: ignore[arg-type]


def test_canonical(convert: Convert) -> None:
    example = convert(
        prompt="2 + 2 =",
        responses=[
            {"content": "4", "score": 1, "label": 0.75, "source": "ann", "demonstration": True},
            {"content": "5", "score": None, "label": False, "demonstration": False},
        ],
        comparisons=[{"better": 0, "worse": 1, "probability": 0.8}],
    )
    first = Response("4", score=1.0, label=0.75, demonstration=True, source="ann")
    assert made(example) == ("2 + 2 =", (first, Response("5", label=0.0)), (Comparison(0, 1, 0.8),))


def test_canonical_text_after_messages_is_the_assistants(convert: Convert) -> None:
    example = convert(prompt=[ASK], responses=[{"content": "4"}, {"content": [WRONG]}])
    assert made(example) == ((ask,), texts((right,), (wrong,)), ())


def test_trl_pairs_of_text(convert: Convert) -> None:
    example = convert(prompt="2 + 2 =", chosen=" 4", rejected=" 5")
    assert made(example) == ("2 + 2 =", texts(" 4", " 5"), FIRST)
    assert example.origin is not None and example.origin.row == 1


def test_trl_pairs_keep_scores_and_source(convert: Convert) -> None:
    example = convert(
        prompt="p",
        chosen="a",
        rejected="b",
        score_chosen=8,
        score_rejected=7.5,
        source="sharegpt",
        margin=0.5,
    )
    expected = (Response("a", score=8.0, source="sharegpt"), Response("b", score=7.5, source="sharegpt"))
    assert made(example) == ("p", expected, FIRST)


def test_trl_pairs_null_in_an_optional_key_is_absence(convert: Convert) -> None:
    example = convert(prompt="p", chosen="a", rejected="b", score_chosen=None, source=None)
    assert example.responses == texts("a", "b")


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        ([ASK], [RIGHT], [WRONG]),
        ([ASK], "4", "5"),
        ([ASK], [ASK, RIGHT], [ASK, WRONG]),
        ("2 + 2 =", [ASK, RIGHT], [ASK, WRONG]),
    ],
    ids=["messages", "text-after-messages", "prompt-repeated", "ultrafeedback"],
)
def test_trl_pairs_of_messages(convert: Convert, prompt: object, chosen: object, rejected: object) -> None:
    example = convert(prompt=prompt, chosen=chosen, rejected=rejected)
    assert made(example) == ((ask,), texts((right,), (wrong,)), FIRST)


def test_trl_pairs_ultrafeedback_with_a_system_turn(convert: Convert) -> None:
    system = {"role": "system", "content": "Be short."}
    example = convert(
        prompt="2 + 2 =", chosen=[system, ASK, RIGHT], rejected=[system, ASK, WRONG], messages=[]
    )
    assert made(example) == ((Message("system", "Be short."), ask), texts((right,), (wrong,)), FIRST)


def test_implied_prompt(convert: Convert) -> None:
    example = convert(chosen=[ASK, WRONG, ASK, RIGHT], rejected=[ASK, WRONG, ASK, WRONG])
    assert made(example) == ((ask, wrong, ask), texts((right,), (wrong,)), FIRST)


def test_implied_prompt_of_identical_sides_leaves_each_its_response(convert: Convert) -> None:
    example = convert(chosen=[ASK, RIGHT], rejected=[ASK, RIGHT])
    assert made(example) == ((ask,), texts((right,), (right,)), FIRST)


def test_implied_prompt_of_sides_that_begin_alike(convert: Convert) -> None:
    example = convert(chosen=[ASK, RIGHT], rejected=[ASK, RIGHT, WRONG])
    assert made(example) == ((ask,), texts((right,), (right, wrong)), FIRST)


def test_implied_prompt_ends_before_the_call_of_a_tool(convert: Convert) -> None:
    other = {**RESULT, "content": "5"}
    example = convert(chosen=[ASK, CALL, RESULT, RIGHT], rejected=[ASK, CALL, other, WRONG])
    five = Message("tool", "5", {"name": "add"})
    assert made(example) == ((ask,), texts((call, result, right), (call, five, wrong)), FIRST)


def test_hh_transcripts(convert: Convert) -> None:
    prompt = f"{H} Hi{A} Hello{H} 2 + 2 ={A}"
    example = convert(chosen=prompt + " 4\n\n", rejected=prompt + " 5")
    assert made(example) == (prompt, texts(" 4\n\n", " 5"), FIRST)


@pytest.mark.parametrize(("prompt", "completion"), [([ASK], [RIGHT]), ([ASK], "4")], ids=["messages", "text"])
def test_completion_of_messages(convert: Convert, prompt: object, completion: object) -> None:
    example = convert(prompt=prompt, completion=completion)
    assert made(example) == ((ask,), (Response((right,), demonstration=True),), ())


def test_completion_of_text(convert: Convert) -> None:
    example = convert(prompt="2 + 2 =", completion=" 4", source="ann", messages=[ASK])
    assert made(example) == ("2 + 2 =", (Response(" 4", demonstration=True, source="ann"),), ())


@pytest.mark.parametrize(("label", "value"), [(True, 1.0), (False, 0.0), (1, 1.0), (0.25, 0.25)])
def test_labelled_completion(convert: Convert, label: object, value: float) -> None:
    example = convert(prompt="2 + 2 =", completion=" 4", label=label)
    assert made(example) == ("2 + 2 =", (Response(" 4", label=value),), ())


def test_messages(convert: Convert) -> None:
    example = convert(messages=[ASK, WRONG, ASK, CALL, RESULT, RIGHT], prompt="as in UltraChat")
    assert made(example) == ((ask, wrong, ask), (Response((call, result, right), demonstration=True),), ())


def test_messages_with_a_label(convert: Convert) -> None:
    example = convert(messages=[ASK, RIGHT], label=True, source="ann")
    assert made(example) == ((ask,), (Response((right,), label=1.0, source="ann"),), ())


@pytest.mark.parametrize("key", ["prompt", "query"])
def test_scored_responses(convert: Convert, key: str) -> None:
    example = convert(**{key: "2 + 2 ="}, responses=["4", "5"], scores=[1, -0.5], sources=["ann", None])
    assert made(example) == (
        "2 + 2 =",
        (Response("4", score=1.0, source="ann"), Response("5", score=-0.5)),
        (),
    )


def test_scored_responses_to_messages(convert: Convert) -> None:
    example = convert(prompt=[ASK], responses=["4", [WRONG]], scores=[1, 0])
    assert made(example) == ((ask,), (Response((right,), score=1.0), Response((wrong,), score=0.0)), ())


def test_parts_of_text_are_joined_and_further_keys_kept(convert: Convert) -> None:
    parts = [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2 =", "image_url": None}]
    example = convert(messages=[{"role": "user", "content": parts, "name": "ann"}, RIGHT])
    assert example.prompt.content == (Message("user", "2 + 2 =", {"name": "ann"}),)


def test_array_rows_are_numbered_by_item(write: Write) -> None:
    path = write(raw=b'[\n\n{"prompt": "a", "completion": "b"},\n\n{"prompt": "c", "completion": "d"}]')
    assert [one.origin for one in read_feedback([path]).examples] == [
        Origin(str(path), 1),
        Origin(str(path), 2),
    ]


def test_a_call_of_a_tool_is_not_an_empty_response(convert: Convert) -> None:
    assert convert(messages=[ASK, CALL]).responses == (Response((call,), demonstration=True),)


PAGE = Path(__file__).parents[2] / "docs" / "feedback.md"


def test_docs_list_every_layout() -> None:
    page = PAGE.read_text("utf-8")
    for layout in LAYOUTS:
        keys = ", ".join(f"`{key}`" for key in layout.keys)
        assert f"| {layout.name} | {keys} | {layout.meaning} |" in page


def test_docs_show_canonical_lines_that_are_read(write: Write) -> None:
    lines = PAGE.read_text("utf-8").split("```json\n")[1].split("```")[0]
    (report,) = read_feedback([write(raw=lines.encode())]).files
    assert (report.layout, report.examples, dict(report.unused_keys)) == ("canonical", 3, {})
