"""Judges that refuse what they are asked with, that think first, or whose answers can be constrained."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.judge_answers import first_with, likely, said
from support.scripted_endpoint import QUESTIONS, Answering, Reply, judging

from trueup.annotators.asker import Answer, NoAnswer, judgement_cache, read_reply
from trueup.annotators.judge import Unreadable, Verdict
from trueup.endpoints.client import Refused
from trueup.endpoints.parameters import FORMS, Parameters, schema_of

SCHEMA = schema_of(("1", "2"))
CHOICE = {"choice": ["1", "2"]}
ASKED = {
    "model": "J", "messages": [], "temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20,
    "response_format": SCHEMA,
}  # fmt: skip
NEWER = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
DEFAULT = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported."


def changed(**changes: Any) -> dict[str, Any]:
    made = {**ASKED, **changes}
    return {name: value for name, value in made.items() if value is not None}


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (NEWER, {"max_tokens": None, "max_completion_tokens": 1}),
        ("Unrecognized request argument supplied: max_tokens", {"max_tokens": None, "max_completion_tokens": 1}),
        ("'max_tokens' must be at least 16", {"max_tokens": 16}),
        (DEFAULT, {"temperature": None}),
        ("`temperature` is deprecated for this model.", {"temperature": None}),
        ('[{"type": "extra_forbidden", "loc": ["body", "temperature"]}]', {"temperature": None}),
        ("`temperature` must be strictly positive", {"temperature": 0.01}),
        ("top_logprobs must be between 0 and 5", {"top_logprobs": 5}),
        ("Requested sample logprobs of 20, which is greater than max allowed: 8", {"top_logprobs": 8}),
        ("top_logprobs is too large", {"top_logprobs": 10}),
        ("no response_format: 'json_schema' is not supported", {"response_format": None, "structured_outputs": CHOICE}),
        ("This model's maximum context length is 512; max_tokens is too large, or use max_completion_tokens", None),
        ("The temperature of the question was 20", None),
        ("top_logprobs is not supported", None),
        ("no prompt of this kind", None),
    ],
)  # fmt: skip
def test_what_a_refusal_teaches(said: str, sent: dict[str, Any] | None) -> None:
    first = Parameters()
    assert first.body(ASKED) == ASKED
    better = first.learned(first.body(ASKED), Refused(f"400: {said}"))
    assert (better and better.body(ASKED)) == (sent and changed(**sent))


def test_a_parameter_that_only_the_field_names_is_found() -> None:
    learned = Parameters().learned(ASKED, Refused("400: Unsupported parameter", "temperature"))
    assert learned is not None and "temperature" not in learned.body(ASKED)


def test_constraints_are_tried_one_after_the_other() -> None:
    way, forms = Parameters(), [FORMS[0]]
    while way.form:
        better = way.learned(way.body(ASKED), Refused(f"400: {way.form} is not supported"))
        assert better is not None
        way = better
        forms.append(way.form)
    assert tuple(forms) == FORMS
    assert Parameters(form="guided_choice").body(ASKED)["guided_choice"] == ["1", "2"]


def picky(answer: Callable[[Mapping[str, Any]], Reply]) -> Callable[[Mapping[str, Any]], Reply]:
    """A judge of the newer kind."""

    def judge(body: Mapping[str, Any]) -> Reply:
        if "max_tokens" in body:
            return Refused(f"400: {NEWER}")
        return Refused(f"400: {DEFAULT}") if "temperature" in body else answer(body)

    return judge


def test_a_newer_judge_is_asked_as_it_wants_and_again_by_the_next_run(tmp_path: Path, told: list[str]) -> None:
    cache = judgement_cache(tmp_path / "kept.sqlite")
    server = Answering(picky(lambda body: first_with(0.75)))
    heard = judging(server, cache).ask(QUESTIONS)
    assert [one.first for one in heard.verdicts if isinstance(one, Verdict)] == pytest.approx([0.75] * 4)
    assert server.batches == [1, 1, 1, 3]
    assert heard.totals["asked_again"] == 0
    assert told == [
        "annotator J: localhost:1/v1 takes max_completion_tokens in place of max_tokens",
        "annotator J: localhost:1/v1 takes no temperature, so that its own default decides",
    ]
    again = judging(server, cache).ask(QUESTIONS)
    assert again.verdicts == heard.verdicts and again.totals["requests"] == 0
    assert len(told) == 4  # once a run
    judging(server, cache).ask([*QUESTIONS, type(QUESTIONS[0])("Question 9")])
    assert "temperature" not in server.asked[-1] and len(server.asked) == 7


def test_answers_are_kept_under_the_request_that_was_sent(tmp_path: Path) -> None:
    """One that was drawn at another temperature is not taken for one at temperature 0."""
    cache = judgement_cache(tmp_path / "kept.sqlite")
    server = Answering(picky(lambda body: said("1")))
    first = judging(server, cache, read="answer")
    first.ask(QUESTIONS[:1])
    request = {**server.asked[0]}
    assert first.asker.recall(request, ("1", "2")) is not None
    first.asker._known = Parameters()
    assert first.asker.recall(request, ("1", "2")) is None


def test_a_lower_limit_of_top_tokens_keeps_log_probabilities(told: list[str]) -> None:
    refused = Refused("400: top_logprobs must be between 0 and 5")
    server = Answering(lambda body: refused if body["top_logprobs"] > 5 else first_with(0.25))
    heard = judging(server, read="auto").ask(QUESTIONS)
    assert [one.first for one in heard.verdicts if isinstance(one, Verdict)] == pytest.approx([0.25] * 4)
    assert told == ["annotator J: localhost:1/v1 takes top_logprobs 5, and not what was asked for"]


def test_a_refusal_of_one_question_over_something_else_teaches_nothing(told: list[str]) -> None:
    """It names a parameter, and is refused without that one too."""
    refused = Refused("400: invalid: temperature of the question")
    server = Answering(lambda body: refused if "0" in body["messages"][0]["content"] else said("1"))
    heard = judging(server, read="answer").ask(QUESTIONS[:2])
    assert isinstance(heard.verdicts[0], Unreadable) and heard.verdicts[1] == Verdict(1.0)
    assert server.asked[-1]["temperature"] == 0 and not told


THINKING = {
    "open": said("<think>Response 2 is short but", "length"), "within the mark": said("<", "length"),
    "apart": said("", "length", reasoning_content="The first"),
    "apart, no content": said(None, "length", reasoning="The first"),
    "hidden": {**said("", "length"), "usage": {"completion_tokens_details": {"reasoning_tokens": 16}}},
    "given nowhere": said(None, "length"), "by its token": likely({"<think>": 1.0}) | {},
}  # fmt: skip
THINKING["by its token"]["choices"][0]["message"]["content"] = ""


@pytest.mark.parametrize("cut", THINKING.values(), ids=THINKING)
def test_a_judge_that_thinks_is_given_room(cut: dict[str, Any], told: list[str]) -> None:
    assert read_reply(cut) in (NoAnswer.THINKING, NoAnswer.CUT_OFF)
    server = Answering(lambda body: cut if body["max_tokens"] < 200 else said("<think>1 or 2</think>\n\n2"))
    heard = judging(server, read="answer").ask(QUESTIONS)
    assert heard.verdicts == (Verdict(0.0),) * 4
    assert server.batches == [1, 1, 3] and server.asked[-1]["max_tokens"] == 4096
    assert [line for line in told if "is given 4096 tokens" in line]


def test_the_longest_answer_is_the_users(told: list[str]) -> None:
    server = Answering(lambda body: THINKING["open"])
    heard = judging(server, read="answer", asks=1, max_answer_tokens=300).ask(QUESTIONS[:2])
    assert heard.verdicts[0] == Unreadable(
        "the model's thoughts were cut off, and no answer came; one that thinks first may need a larger "
        "annotator.max_answer_tokens"
    )
    assert [body["max_tokens"] for body in server.asked] == [300, 300] and not told


def test_a_request_that_thoughts_filled_is_given_room() -> None:
    full = Refused("400: Could not finish the message because max_tokens or model output limit was reached.")
    server = Answering(lambda body: full if body["max_tokens"] < 200 else said("1"))
    assert judging(server, read="answer").ask(QUESTIONS[:2]).verdicts == (Verdict(1.0),) * 2


@pytest.mark.parametrize(
    ("content", "answer"),
    [("<think>2</think>1", "1"), ("two </think> thoughts</think>\n1", "1"), ("[THINK]2[/THINK] 1", "1"),
     ("<think></think>", ""), ("1", "1")],
)  # fmt: skip
def test_an_answer_is_read_behind_the_thoughts(content: str, answer: str) -> None:
    assert read_reply(said(content)) == Answer(answer)


def test_log_probabilities_are_read_behind_the_thoughts() -> None:
    spelled = {"<think>": 1.0, "2": 0.9, "</think>": 1.0, "\n\n": 1.0, "1": 0.6, "<|end|>": 1.0}
    positions = [likely({token: p, "2": 1 - p} if p < 1 else {token: p}) for token, p in spelled.items()]
    reply = said("<think>2</think>\n\n1")
    contents = [one["choices"][0]["logprobs"]["content"][0] for one in positions]
    reply["choices"][0]["logprobs"] = {"content": contents}
    read = read_reply(reply)
    assert isinstance(read, Answer) and read.top is not None
    assert [token for token, _ in read.top] == ["1", "2"]


def test_an_answer_is_constrained_where_the_endpoint_offers_it() -> None:
    def answer(body: Mapping[str, Any]) -> Reply:
        if "response_format" in body:
            return Refused("400: response_format is not supported")
        return said("2" if "structured_outputs" in body else "I think that both are fine")

    server = Answering(answer)
    assert judging(server, read="answer").ask(QUESTIONS[:2]).verdicts == (Verdict(0.0),) * 2
    assert server.batches == [1, 1, 1]
    free = Answering(lambda body: said("1"))
    judging(free, read="answer", form="free").ask(QUESTIONS[:1])
    assert set(free.asked[0]) == {"model", "messages", "temperature", "max_tokens"}
    schema = Answering(lambda body: said('{"preferred": "2"}'))
    assert judging(schema, read="answer").ask(QUESTIONS[:1]).verdicts == (Verdict(0.0),)
