"""The layouts of single public data sets: rows of no use are counted, and every fault is told by its message."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.dataset_rows import (
    DROP,
    FINE,
    GSM,
    HELPSTEER,
    HELPSTEER2,
    HELPSTEER3,
    NECTAR,
    OPEN,
    ROWS,
    SHP,
    SUMMARIES,
    SUMMARY,
    TRUTHFUL,
    ULTRAFEEDBACK,
    UNIEVAL,
    Row,
    changed,
    made,
)

from trueup.errors import InputError
from trueup.feedback.layouts.known import DATA_SETS
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Comparison, Example, Response

Write = Callable[..., Path]
Convert = Callable[..., Example]


USELESS: list[tuple[Row, str]] = [
    (changed(HELPSTEER2, ("preference_strength",), 0), "the two responses tie"),
    (changed(HELPSTEER3, ("overall_preference",), 0), "the two responses tie"),
    (
        {key: value for key, value in {**OPEN, "preference": "tie"}.items() if "acceptable" not in key},
        "the two responses tie",
    ),
    ({**FINE, "preference": [0] * 6, "feedback": None}, "all responses tie"),
    ({**ULTRAFEEDBACK, "completions": []}, "the list of completions is empty"),
    (
        {**ULTRAFEEDBACK, "completions": [{"response": "a", "overall_score": 1}, {"response": "b"}]},
        "no kind of score is given to all completions",
    ),
    (changed(SUMMARY, ("summary", "axes", "overall"), None), "the summary has no overall score"),
    (changed(SUMMARY, ("summary", "axes", "overall"), DROP), "the summary has no overall score"),
    ({**HELPSTEER3, "context": []}, "no turn stands before the response"),
    (changed(NECTAR, ("answers", 0, "answer"), ""), "a response is empty"),
    (
        {**TRUTHFUL, "Best Answer": "", "Correct Answers": ";", "Incorrect Answers": " "},
        "there is no answer",
    ),
]


@pytest.mark.parametrize(("row", "reason"), USELESS, ids=range(len(USELESS)))
def test_useless_rows_are_counted_not_fatal(write: Write, row: Row, reason: str) -> None:
    useful = write({"prompt": "p", "completion": "a"}, name="useful.jsonl")
    feedback = read_feedback([useful, write(row, row)])
    assert len(feedback.examples) == 1
    assert feedback.files[1].unusable == {reason: (1, 2)}


def test_an_empty_list_of_answers_after_others(write: Write) -> None:
    (report,) = read_feedback([write(NECTAR, {**NECTAR, "answers": []})]).files
    assert report.unusable == {"the list of answers is empty": (2,)}


FAULTS: list[tuple[Row, tuple[str | int, ...], object, str]] = [
    (ULTRAFEEDBACK, ("instruction",), None, "instruction: found null, expected text"),
    (ULTRAFEEDBACK, ("completions", 1), "x", r"completions\[1\]: found text 'x', expected an object"),
    (ULTRAFEEDBACK, ("completions", 1, "response"), DROP, r"completions\[1\].response: the key is missing"),
    (ULTRAFEEDBACK, ("completions", 0, "response"), 3, r"completions\[0\].response: found the number 3, exp"),
    (
        ULTRAFEEDBACK,
        ("completions", 0, "model"),
        3,
        r"completions\[0\].model: found the number 3, expected text",
    ),
    (
        ULTRAFEEDBACK,
        ("completions", 0, "overall_score"),
        "8",
        r"completions\[0\].overall_score: found text '8'",
    ),
    (NECTAR, ("prompt",), ["x"], "prompt: found a list of 1, expected text"),
    (NECTAR, ("answers", 1), None, r"answers\[1\]: found null, expected an object"),
    (
        NECTAR,
        ("answers", 2, "rank"),
        DROP,
        r"answers\[2\].rank: the key is missing; the row has answer, model",
    ),
    (
        NECTAR,
        ("answers", 0, "rank"),
        "first",
        r"answers\[0\].rank: found text 'first', expected a finite number",
    ),
    (
        NECTAR,
        ("answers", 0, "rank"),
        0,
        r"answers\[0\].rank: found the number 0, expected a whole .* least 1$",
    ),
    (
        NECTAR,
        ("answers", 0, "rank"),
        1.5,
        r"answers\[0\].rank: found the number 1.5, expected a whole number",
    ),
    (NECTAR, ("answers", 0, "answer"), None, r"answers\[0\].answer: found null, expected text"),
    (SHP, ("labels",), 2, "labels: found the number 2, expected a whole number from 0 to 1"),
    (SHP, ("labels",), True, "labels: found true, expected a finite number"),
    (SHP, ("history",), None, "history: found null, expected text"),
    (SHP, ("human_ref_B",), None, "human_ref_B: found null, expected text"),
    (SHP, ("score_B",), "30", "score_B: found text '30', expected a finite number"),
    (HELPSTEER, ("helpfulness",), "3", "helpfulness: found text '3', expected a finite number"),
    (HELPSTEER, ("helpfulness",), None, "helpfulness: found null, expected a finite number"),
    (HELPSTEER, ("response",), 3, "response: found the number 3, expected text"),
    (HELPSTEER, ("prompt",), "Hi\n<extra_id_1>Assistant\n", "prompt: the last turn is the assistant's"),
    (HELPSTEER2, ("preference_strength",), 4, "preference_strength: found the number 4, .* from -3 to 3"),
    (HELPSTEER2, ("preference_strength",), -100, "preference_strength: found the number -100, .* -3 to 3"),
    (HELPSTEER2, ("response_2",), None, "response_2: found null, expected text"),
    (HELPSTEER3, ("overall_preference",), 0.5, "overall_preference: found the number 0.5, expected a whole"),
    (HELPSTEER3, ("context",), "Hi", "context: found text 'Hi', expected a list of messages"),
    (
        HELPSTEER3,
        ("context", 2, "role"),
        "assistant",
        r"context\[2\].role: found text 'assistant', .* the user",
    ),
    (HELPSTEER3, ("context", 0, "role"), "human", r"context\[0\].role: .* did you mean 'user'\?"),
    (
        SUMMARIES,
        ("choice",),
        2,
        "choice: found the number 2, expected the position of a response, from 0 to 1",
    ),
    (SUMMARIES, ("choice",), None, "choice: found null, expected the position of a response"),
    (SUMMARIES, ("summaries",), [{"text": "a"}], "summaries: found a list of 1, expected a list of 2"),
    (SUMMARIES, ("summaries", 1, "text"), DROP, r"summaries\[1\].text: the key is missing"),
    (SUMMARIES, ("info", "title"), DROP, "info.title: the key is missing; .* a 'post' with its 'title'"),
    (SUMMARIES, ("info", "post"), None, "info.article: the key is missing; .* or an 'article'"),
    (SUMMARIES, ("info",), "It hurts.", "info: found text 'It hurts.', expected an object"),
    (SUMMARY, ("summary", "axes"), DROP, "summary.axes: the key is missing"),
    (SUMMARY, ("summary", "axes", "overall"), "6", "summary.axes.overall: found text '6', expected a finite"),
    (
        FINE,
        ("preference",),
        [1, 2],
        r"preference: found a list of 2, expected one number for each of the 6 pairs",
    ),
    (FINE, ("preference", 3), 3, r"preference\[3\]: found the number 3, expected a whole number from 0 to 2"),
    (FINE, ("preference", 0), "1", r"preference\[0\]: found text '1', expected a finite number"),
    (FINE, ("prediction 4",), None, "prediction 4: found null, expected text"),
    (FINE, ("passages", 1), [], r"passages\[1\]: found a list of 0, expected a title and sentences"),
    (FINE, ("passages", 0, 2), 7, r"passages\[0\]\[2\]: found the number 7, expected text"),
    (FINE, ("feedback",), "good", "feedback: found text 'good', expected an object"),
    (FINE, ("feedback", "corrected-prediction"), 1, "feedback.corrected-prediction: found the number 1"),
    (OPEN, ("preference",), "a", "preference: found text 'a', expected one of a-is-better, .* tie, "),
    (OPEN, ("preference",), None, "preference: found null, expected text"),
    (
        OPEN,
        ("completion_b_is_acceptable",),
        "maybe",
        "completion_b_is_acceptable: .*'maybe', expected 'yes' or",
    ),
    (OPEN, ("model_a",), 7, "model_a: found the number 7, expected text"),
    (TRUTHFUL, ("Correct Answers",), ["4"], "Correct Answers: found a list of 1, expected text"),
    (TRUTHFUL, ("Question",), None, "Question: found null, expected text"),
    (
        GSM,
        ("mine", "is_correct"),
        "yes",
        "mine.is_correct: found text 'yes', expected true, false or a number",
    ),
    (GSM, ("mine", "is_correct"), DROP, "mine.is_correct: the key is missing"),
    (GSM, ("6b_finetuning", "solution"), DROP, "6b_finetuning.solution: the key is missing"),
    (GSM, ("ground_truth",), 4, "ground_truth: found the number 4, expected text"),
    (UNIEVAL, ("scores", "overall"), DROP, "scores.overall: the key is missing; the row has coherence"),
    (UNIEVAL, ("scores", "overall"), "good", "scores.overall: found text 'good', expected a finite number"),
    (UNIEVAL, ("system_id",), 3, "system_id: found the number 3, expected text"),
]


@pytest.mark.parametrize(("row", "path", "value", "message"), FAULTS, ids=range(len(FAULTS)))
def test_faults(convert: Convert, row: Row, path: tuple[str | int, ...], value: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        convert(**changed(row, path, value))
    assert re.match(r"\S*/data\.jsonl:1: ", str(caught.value)) and "\n" not in str(caught.value)


RATINGS: list[tuple[tuple[str | int, ...], object, str]] = [
    (("honesty", "Rating"), "good", "honesty.Rating: found text 'good', expected a number, or 'N/A'"),
    (("honesty", "Rating"), "nan", "honesty.Rating: found text 'nan', expected a number, or 'N/A'"),
    (("honesty", "Rating"), True, "honesty.Rating: found true, expected a finite number"),
    (("honesty",), 3, "honesty: found the number 3, expected an object"),
]


@pytest.mark.parametrize(("path", "value", "message"), RATINGS)
def test_faults_of_ultrafeedback_ratings(
    convert: Convert, path: tuple[str | int, ...], value: object, message: str
) -> None:
    row = changed(ULTRAFEEDBACK, ("completions", 0, "annotations", *path), value)
    for key in ("overall_score", "fine-grained_score"):
        row = changed(row, ("completions", 0, key), None)
    with pytest.raises(InputError, match=r"completions\[0\].annotations." + re.escape(message)):
        convert(**row)


@pytest.mark.parametrize("name", ROWS)
def test_a_key_that_a_later_row_lacks(write: Write, name: str) -> None:
    """Every key that the layout names as one of every row is demanded of every row."""
    (layout,) = (one for one in DATA_SETS if one.name == name)
    for key in layout.keys:
        with pytest.raises(InputError, match=f"2: {re.escape(key)}: the key is missing.* taken for {name}"):
            read_feedback([write(ROWS[name], changed(ROWS[name], (key,), DROP))])


@pytest.mark.parametrize("row", [HELPSTEER, HELPSTEER2], ids=["ratings", "preferences"])
def test_pairs_stay_pairs(convert: Convert, row: Row) -> None:
    """A file that was turned into pairs, and kept its first columns, is one of pairs."""
    example = convert(**{**row, "chosen": "a", "rejected": "b"})
    assert made(example) == ("c#", (Response("a"), Response("b")), (Comparison(0, 1),))


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "p", "answers": [{"content": "a"}]}, "Nectar"),
        ({"question": "q", "ground_truth": "a"}, "GSM8K solutions"),
    ],
)
def test_the_right_keys_with_other_values(convert: Convert, row: Row, name: str) -> None:
    with pytest.raises(InputError, match=f"no known layout .*; {name} has other values there; docs/feedback"):
        convert(**row)
