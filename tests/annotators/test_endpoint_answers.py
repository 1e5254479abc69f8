"""What is read from replies of /chat/completions, down to those that no endpoint should give."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.annotators.answers import (
    CUT_OFF,
    FILTERED,
    LEFT_OPEN,
    NEITHER_LIKELY,
    NO_ANSWER,
    NOT_NUMBERS,
    REFUSED,
    Answer,
    first_by_log_probs,
    read_reply,
    read_usage,
)
from trueup.annotators.budget import Usage
from trueup.annotators.judge import Unreadable, Verdict

LABELS = ("1", "2")


def reply(content: object = "1", finish: str = "stop", **message: object) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}


def with_log_probs(*positions: object) -> dict[str, Any]:
    made = reply()
    made["choices"][0]["logprobs"] = {"content": list(positions)}
    return made


def position(token: str, **top: object) -> dict[str, object]:
    return {
        "token": token,
        "top_logprobs": [{"token": name, "logprob": value} for name, value in top.items()],
    }


def first(*top: tuple[str, float]) -> float:
    verdict = first_by_log_probs(top, LABELS)
    assert isinstance(verdict, Verdict)
    return verdict.first


def test_the_answer_of_a_reply() -> None:
    assert read_reply({**reply(" 2 "), "id": "x", "unknown": [1]}) == Answer(" 2 ", None, False)
    assert read_reply(reply("", "length")) == Answer("", None, True)
    two = {"choices": [reply("2")["choices"][0], reply("1")["choices"][0]]}
    assert read_reply(two) == Answer("2", None)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, NO_ANSWER),
        ([], NO_ANSWER),
        ("1", NO_ANSWER),
        ({"error": {"message": "overloaded"}}, NO_ANSWER),
        ({"choices": []}, NO_ANSWER),
        ({"choices": None}, NO_ANSWER),
        ({"choices": {"0": 1}}, NO_ANSWER),
        ({"choices": ["1"]}, NO_ANSWER),
        ({"choices": [{"text": "1"}]}, NO_ANSWER),
        ({"choices": [{"message": "1"}]}, NO_ANSWER),
        (reply(None), NO_ANSWER),
        (reply(1), NO_ANSWER),
        (reply([{"type": "text", "text": "1"}]), NO_ANSWER),
        (reply(None, "length"), CUT_OFF),
        (reply(None, refusal="I cannot."), REFUSED),
        (reply("1", refusal="I cannot."), REFUSED),
        (reply("1", "content_filter"), FILTERED),
        (reply(None, "content_filter"), FILTERED),
    ],
)
def test_a_reply_without_an_answer(given: object, reason: Unreadable) -> None:
    assert read_reply(given) == reason


def test_the_likeliest_tokens_at_the_position_of_the_answer() -> None:
    answer = read_reply(with_log_probs(position("1", **{"1": -0.5, " 2": -1.0}), position(".", x=0)))
    assert answer == Answer("1", (("1", -0.5), (" 2", -1.0)))
    after_space = read_reply(with_log_probs(position("\n", x=0), position("2", **{"2": 0})))
    assert after_space == Answer("1", (("2", 0.0),))
    assert read_reply(with_log_probs(position(" ", **{"2": 0}))) == Answer("1", (("2", 0.0),))


@pytest.mark.parametrize("none", [None, {}, {"content": None}, {"content": []}, {"content": [{}]}, "1", [1]])
def test_log_probs_that_are_not_given(none: object) -> None:
    made = reply()
    made["choices"][0]["logprobs"] = none
    assert read_reply(made) == Answer("1", None)


@pytest.mark.parametrize("value", [None, "0.5", True, math.nan, math.inf, 0.5, 10**400, -(10**400)])
def test_what_is_no_log_prob_is_not_read(value: object) -> None:
    answer = read_reply(with_log_probs(position("1", **{"1": -0.5, "2": value})))
    assert isinstance(answer, Answer)
    assert answer.top is not None
    assert first_by_log_probs(answer.top, LABELS) == NOT_NUMBERS


def test_the_first_labels_share_of_both() -> None:
    """Other tokens do not matter, and spellings of a label count together."""
    half = math.log(0.5)
    assert first(("1", half), ("2", half)) == 0.5
    assert first(("1", math.log(0.6)), ("2", math.log(0.2))) == pytest.approx(0.75)
    assert first(("1", math.log(0.3)), (" 1", math.log(0.3)), ("2", math.log(0.2)), ("x", math.log(0.1))) == (
        pytest.approx(0.75)
    )
    assert first(("\u01201", math.log(0.3)), ("\u25812", math.log(0.1))) == pytest.approx(0.75)
    assert first(("1", -9000.0), ("2", -9001.0)) == pytest.approx(1 / (1 + math.exp(-1)))


@given(st.floats(-50, 0), st.floats(-50, 0))
def test_exchanging_labels_exchanges_shares(one: float, two: float) -> None:
    there, back = first(("1", one), ("2", two)), first(("2", one), ("1", two))
    assert there + back == pytest.approx(1, abs=1e-15)
    assert 0 <= there <= 1


def test_a_label_that_is_not_given_has_next_to_nothing() -> None:
    assert first(("1", -0.01), ("x", -8.0)) == 1.0
    assert first(("2", -0.01), ("x", -8.0)) == 0.0
    assert first(("2", -1e-9)) == 0.0  # the only token given leaves nothing
    assert first(("1", -0.5), ("2", -math.inf)) == 1.0


@pytest.mark.parametrize(
    ("top", "reason"),
    [
        ([("x", -0.1), ("y", -3.0)], NEITHER_LIKELY),
        ([("1a", -0.1), ("12", -3.0), ("\uff11", -4.0)], NEITHER_LIKELY),
        ([("1", -math.inf), ("2", -math.inf)], NEITHER_LIKELY),
        ([("x", -0.1), ("1", -6.0)], LEFT_OPEN),
        ([("1", -1.0)], LEFT_OPEN),
        ([("x", -0.5), ("2", -1.5), ("y", -3.0)], LEFT_OPEN),
    ],
)
def test_tokens_that_do_not_decide(top: list[tuple[str, float]], reason: Unreadable) -> None:
    assert first_by_log_probs(top, LABELS) == reason


def test_an_answer_comes_back_from_the_disk() -> None:
    for answer in (Answer("1", (("1", -0.1), (" 2", -math.inf))), Answer("\ud800", None, True)):
        assert Answer.from_kept(json.loads(json.dumps(answer.kept(str)))) == answer
    kept = Answer("secret", (("a secret", -0.1), ("1", -1.0))).kept(
        lambda text: text.replace("secret", "***")
    )
    assert kept == {"text": "***", "top": [["a ***", -0.1], ["1", -1.0]], "cut_off": False}


def test_the_tokens_a_reply_took() -> None:
    assert read_usage({"usage": {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13}}) == Usage(
        12, 1
    )


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [1, 2],
        {"prompt_tokens": 12},
        {"completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": "12", "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": math.nan, "completion_tokens": 1},
    ],
)
def test_usage_that_is_not_given(usage: object) -> None:
    assert read_usage({"usage": usage}) is None
    assert read_usage("") is None
