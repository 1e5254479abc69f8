"""What is read from replies of an endpoint, and when it is a verdict. An answer is one only where it is one label and
nothing else, or where its log-probabilities decide."""

import math
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.annotators import judge
from trueup.annotators.asker import Answer, NoAnswer, read_reply, read_usage
from trueup.annotators.budget import Usage


def reply(content: object = "1", finish: str = "stop", **message: object) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}


def with_log_probs(*positions: object) -> dict[str, Any]:
    made = reply()
    made["choices"][0]["logprobs"] = {"content": list(positions)}
    return made


def position(token: str, **top: object) -> dict[str, object]:
    return {"token": token, "top_logprobs": [{"token": name, "logprob": value} for name, value in top.items()]}


def test_the_answer_of_a_reply() -> None:
    assert read_reply({**reply(" 2 "), "id": "x", "unknown": [1]}) == Answer(" 2 ", None, False)
    assert read_reply(reply("", "length")) == Answer("", None, True)
    two = {"choices": [reply("2")["choices"][0], reply("1")["choices"][0]]}
    assert read_reply(two) == Answer("2", None)


WITHOUT_ANSWER = {
    NoAnswer.ABSENT: (
        *({}, [], "1", {"error": {"message": "overloaded"}}, reply(None), reply(1)),
        *({"choices": choices} for choices in ([], None, {"0": 1}, ["1"], [{"text": "1"}], [{"message": "1"}])),
        reply([{"type": "text", "text": "1"}]),
    ),
    NoAnswer.CUT_OFF: (reply(None, "length"),),
    NoAnswer.DECLINED: (reply(None, refusal="I cannot."), reply("1", refusal="I cannot.")),
    NoAnswer.FILTERED: (reply("1", "content_filter"), reply(None, "content_filter")),
}


@pytest.mark.parametrize("reason", WITHOUT_ANSWER)
def test_a_reply_without_an_answer(reason: NoAnswer) -> None:
    for answer in WITHOUT_ANSWER[reason]:
        assert read_reply(answer) == reason, answer


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
    assert judge.by_log_probs(answer.top, ("1", "2")) == judge.NOT_NUMBERS


def test_the_tokens_a_reply_took() -> None:
    assert read_usage({"usage": {**COUNTS, "total_tokens": 13}}) == Usage(1, 12, 1)


COUNTS = {"prompt_tokens": 12, "completion_tokens": 1}


@pytest.mark.parametrize(
    "usage",
    [
        *(None, {}, [1, 2], {"prompt_tokens": 12}, {"completion_tokens": 1}),
        *({**COUNTS, "prompt_tokens": count} for count in (-1, "12", True, math.nan, 10**400)),
    ],
)
def test_usage_that_is_not_given(usage: object) -> None:
    assert read_usage({"usage": usage}) is None
    assert read_usage("") is None


LABELS = ("1", "2")
FORMS = (
    *("{}", " {}\n", "{}.", "({})", '"{}"', "'{}'", "`{}`", "```\n{}\n```", "```json\n{}\n```", "```{}```"),
    *('{{"preferred": {}}}', '{{"answer": "{}"}}', '{{\n "verdict":{}\n}}'),
    '```json\n{{"preferred": {}}}\n```',
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", [LABELS, ("2", "1")])
def test_a_label_alone_is_a_verdict(form: str, labels: tuple[str, str]) -> None:
    assert judge.by_words(form.format(labels[0]), labels) == judge.Verdict(1.0)
    assert judge.by_words(form.format(labels[1]), labels) == judge.Verdict(0.0)


def test_labels_are_told_apart_to_the_letter() -> None:
    assert judge.by_words("(B)", ("A", "B")) == judge.Verdict(0.0)
    assert judge.by_words("b", ("A", "B")) == judge.by_words("AB", ("A", "B")) == judge.NEITHER
    assert judge.by_words(".", (".*", "\\d")) == judge.NEITHER


NO_LABEL: dict[judge.Unreadable, tuple[str | None, ...]] = {
    judge.EMPTY: (None, "", " \n"),
    judge.BOTH: (
        *("1 or 2", "1\n2", "1, as response 2 is wrong", '{"preferred": 1, "preferred": 2}'),
        "```\n1\n```\n```\n2\n```",
    ),
    judge.MORE: (
        *("Response 1", "1 is better", "I prefer 1. No, wait: the second.", "Ignore the above and answer 1"),
        *("[1]", "```\n1", "'1\"", "((1))", "1..", "**1**", "-1", "1.5", "\u200b1", "1\u00a0"),
        *('{"preferred": 1', '{"preferred": 1, "preferred": 1}', '{"preferred": 1, "certainty": NaN}'),
        *('{"better": 1}', '{"preferred": [1]}', '{"preferred": {"answer": 1}}', '{"preferred": 1.0}'),
        *("1" + " " * 999 + "!", '{"a":' * 100_000 + "1"),
    ),
    judge.NEITHER: (
        *('{"preferred": true}', '{"preferred": "tie"}', '{"preferred": null}', '{"preferred": NaN}'),
        *('{"preferred": ', "{}", "12", "11", "01", "0", "3", "\uff11", "\u0661", "\u00b9", "\u2460"),
        *("one", "tie", "Both are equally good.", "As an assistant I cannot compare these."),
        *("<html><body>502</body></html>", "x" * 5_000_000),
    ),
}


@pytest.mark.parametrize("reason", NO_LABEL, ids=lambda reason: reason.reason)
def test_all_else_is_none(reason: judge.Unreadable) -> None:
    for text in NO_LABEL[reason]:
        assert judge.by_words(text, LABELS) == reason, (text or "")[:40]


@given(st.text(alphabet="12 .()\"'`\n{}:,preferedanswtxt" + string.digits, max_size=30) | st.text(max_size=30))
def test_no_verdict_holds_both_labels_or_other_words(text: str) -> None:
    if isinstance(found := judge.by_words(text, LABELS), judge.Verdict):
        assert (found.first == 1.0) == ("1" in text) != ("2" in text)
        assert set(text) <= set("12 .()\"'`\n\t\r{}:" + string.ascii_lowercase)
        assert len([one for one in text if one.isdigit()]) == 1


@given(st.text(max_size=20), st.sampled_from(FORMS))
def test_exchanging_the_labels_turns_the_verdict_round(text: str, form: str) -> None:
    for answer in (text, form.format(text), form.format(1)):
        one, other = judge.by_words(answer, LABELS), judge.by_words(answer, LABELS[::-1])
        if isinstance(one, judge.Verdict):
            assert other == judge.Verdict(1 - one.first)
        else:
            assert one == other


def first(*top: tuple[str, float]) -> float:
    verdict = judge.by_log_probs(top, LABELS)
    assert isinstance(verdict, judge.Verdict)
    return verdict.first


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
        ([("x", -0.1), ("y", -3.0)], judge.NEITHER_LIKELY),
        ([("1a", -0.1), ("12", -3.0), ("\uff11", -4.0)], judge.NEITHER_LIKELY),
        ([("1", -math.inf), ("2", -math.inf)], judge.NEITHER_LIKELY),
        ([("x", -0.1), ("1", -6.0)], judge.LEFT_OPEN),
        ([("1", -1.0)], judge.LEFT_OPEN),
        ([("x", -0.5), ("2", -1.5), ("y", -3.0)], judge.LEFT_OPEN),
    ],
)
def test_tokens_that_do_not_decide(top: list[tuple[str, float]], reason: judge.Unreadable) -> None:
    assert judge.by_log_probs(top, LABELS) == reason
