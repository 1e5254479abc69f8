"""What is read from replies of /chat/completions, down to those that no endpoint should give."""

import math
from typing import Any

import pytest

from trueup.annotators.asker import Answer, NoAnswer, read_reply, read_usage
from trueup.annotators.budget import Usage
from trueup.annotators.judge import NOT_NUMBERS, by_log_probs


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


def test_the_answer_of_a_reply() -> None:
    assert read_reply({**reply(" 2 "), "id": "x", "unknown": [1]}) == Answer(" 2 ", None, False)
    assert read_reply(reply("", "length")) == Answer("", None, True)
    two = {"choices": [reply("2")["choices"][0], reply("1")["choices"][0]]}
    assert read_reply(two) == Answer("2", None)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, NoAnswer.ABSENT),
        ([], NoAnswer.ABSENT),
        ("1", NoAnswer.ABSENT),
        ({"error": {"message": "overloaded"}}, NoAnswer.ABSENT),
        ({"choices": []}, NoAnswer.ABSENT),
        ({"choices": None}, NoAnswer.ABSENT),
        ({"choices": {"0": 1}}, NoAnswer.ABSENT),
        ({"choices": ["1"]}, NoAnswer.ABSENT),
        ({"choices": [{"text": "1"}]}, NoAnswer.ABSENT),
        ({"choices": [{"message": "1"}]}, NoAnswer.ABSENT),
        (reply(None), NoAnswer.ABSENT),
        (reply(1), NoAnswer.ABSENT),
        (reply([{"type": "text", "text": "1"}]), NoAnswer.ABSENT),
        (reply(None, "length"), NoAnswer.CUT_OFF),
        (reply(None, refusal="I cannot."), NoAnswer.DECLINED),
        (reply("1", refusal="I cannot."), NoAnswer.DECLINED),
        (reply("1", "content_filter"), NoAnswer.FILTERED),
        (reply(None, "content_filter"), NoAnswer.FILTERED),
    ],
)
def test_a_reply_without_an_answer(given: object, reason: NoAnswer) -> None:
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
    assert by_log_probs(answer.top, ("1", "2")) == NOT_NUMBERS


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
