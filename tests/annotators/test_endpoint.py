"""An endpoint as a judge: how it is asked, what its answers become, what they cost, and what is asked only once."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.judge_answers import first_with, said
from support.scripted_endpoint import QUESTIONS, Answering, Reply, judging, text_of

from trueup.annotators.asker import Asker, judgement_cache
from trueup.annotators.budget import Budget
from trueup.annotators.endpoint import EndpointJudge
from trueup.annotators.judge import Question, Unreadable, Verdict
from trueup.endpoints.client import Refused
from trueup.endpoints.parameters import schema_of
from trueup.errors import AnnotatorError, Stopped
from trueup.record_cache import RecordCache
from trueup.settings.annotator_kinds import EndpointAnnotator

PLAIN = {"model": "J", "messages": [{"role": "user", "content": "Question 0"}], "temperature": 0}


@pytest.fixture
def cache(tmp_path: Path) -> RecordCache:
    return judgement_cache(tmp_path / "judgements.sqlite")


def by_number(body: Mapping[str, Any]) -> float:
    """A probability that differs from question to question."""
    return 0.1 + 0.2 * int(text_of(body).split()[1])


def test_log_probs_are_asked_for_and_read(told: list[str]) -> None:
    server = Answering(lambda body: first_with(by_number(body)))
    heard = judging(server, read="auto").ask(QUESTIONS)
    assert [verdict.first for verdict in heard.verdicts if isinstance(verdict, Verdict)] == (
        pytest.approx([0.1, 0.3, 0.5, 0.7])
    )
    assert server.asked[0] == {**PLAIN, "max_tokens": 1, "logprobs": True, "top_logprobs": 20}
    assert server.batches == [1, 3]  # one finds out what the endpoint gives
    assert heard.totals == {"requests": 4, "cached": 0, "asked_again": 0, "tokens": 1204, "estimated": 0}
    assert not told


def test_answers_are_read_where_there_are_no_log_probs(told: list[str]) -> None:
    server = Answering(lambda body: said("2" if text_of(body).endswith("1") else "1"))
    judge = judging(server, read="auto")
    heard = judge.ask(QUESTIONS)
    assert heard.verdicts == (Verdict(1.0), Verdict(0.0), Verdict(1.0), Verdict(1.0))
    assert server.batches == [1, 1, 3]
    assert heard.totals["requests"] == 5
    assert server.asked[1] == {**PLAIN, "max_tokens": 32, "response_format": schema_of(("1", "2"))}
    judge.ask([Question("Another 1")])
    assert told == [
        "annotator J: localhost:1/v1 gives no log-probabilities; verdicts are read from its answers, each of them "
        "wholly for one response"
    ]
    assert server.batches == [1, 1, 3, 1]


def test_log_probs_that_are_refused_are_done_without(told: list[str]) -> None:
    refused = Refused("400: logprobs are not supported with this model")
    server = Answering(lambda body: refused if "logprobs" in body else said("1"))
    assert judging(server, read="auto").ask(QUESTIONS[:2]).verdicts == (Verdict(1.0),) * 2
    assert len(told) == 1


def test_one_reply_without_log_probs_is_asked_for_its_answer(told: list[str]) -> None:
    """An endpoint that passes questions on to several others need not be alike for all."""

    def answer(body: Mapping[str, Any]) -> Reply:
        bare = "2" in text_of(body)
        return said("2") if bare or "logprobs" not in body else first_with(0.75)

    server = Answering(answer)
    judge = judging(server, read="auto")
    heard = judge.ask(QUESTIONS)
    assert [verdict.first for verdict in heard.verdicts if isinstance(verdict, Verdict)] == (
        pytest.approx([0.75, 0.75, 0.0, 0.75])
    )
    assert server.batches == [1, 3, 1]
    judge.ask([Question("Question 7"), Question("Question 2, once more")])
    assert server.batches == [1, 3, 1, 2, 1]
    assert len(told) == 1


def test_log_probs_alone_are_wanted_and_not_given(told: list[str]) -> None:
    server = Answering(lambda body: said("1"))
    with pytest.raises(AnnotatorError) as caught:
        judging(server, read="log-probs").ask(QUESTIONS)
    assert str(caught.value) == (
        "annotator J: localhost:1/v1 gives no log-probabilities, and annotator.read is log-probs; give annotator.read "
        "answer, or auto"
    )
    assert server.batches == [1]
    assert not told


def test_answers_alone_are_wanted(told: list[str]) -> None:
    server = Answering(lambda body: first_with(0.9) if "logprobs" in body else said("(2)"))
    assert judging(server, read="answer").ask(QUESTIONS).verdicts == (Verdict(0.0),) * 4
    assert server.batches == [1, 3]  # one finds out how the endpoint wants to be asked
    assert not told


AGAIN = "\n\nAnswer with one label alone, 1 or 2, and nothing else."


def test_what_cannot_be_read_is_asked_again_in_other_words() -> None:
    server = Answering(lambda body: said("1" if text_of(body).endswith(AGAIN) else "Both!"))
    heard = judging(server, read="answer", asks=2).ask(QUESTIONS[:2])
    assert heard.verdicts == (Verdict(1.0),) * 2
    assert sorted(server.texts) == ["Question 0", f"Question 0{AGAIN}", "Question 1", f"Question 1{AGAIN}"]
    assert (heard.totals["asked_again"], heard.totals["requests"]) == (2, 4)


@pytest.mark.parametrize("asks", [1, 2, 3])
def test_what_can_never_be_read_is_unreadable(asks: int) -> None:
    server = Answering(lambda body: said("Both!") if "0" in text_of(body) else said("2"))
    heard = judging(server, read="answer", asks=asks).ask(QUESTIONS[:2])
    assert heard.verdicts == (Unreadable("the answer is neither label"), Verdict(0.0))
    assert len(server.asked) == 1 + asks


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            said("1", "length"),
            "the answer was cut off at its longest length; one that thinks first may need a larger "
            "annotator.max_answer_tokens",
        ),
        (said("1", "content_filter"), "the endpoint's content filter cut the answer off"),
        (said(None), "the endpoint's reply holds no answer"),
        (said("1", refusal="No."), "the judge refused to answer"),
        (said("1 or 2"), "the answer names both labels"),
    ],
)
def test_each_fault_of_an_answer_has_its_reason(reply: Reply, reason: str) -> None:
    heard = judging(Answering(lambda body: reply), read="answer").ask(QUESTIONS[:1])
    assert heard.verdicts == (Unreadable(reason),)


def test_a_refused_request_is_not_asked_again() -> None:
    refused = Refused("This model's maximum context length is 512 tokens. You asked for 600.")
    server = Answering(lambda body: refused if "0" in text_of(body) else said("1"))
    heard = judging(server, read="answer", asks=3).ask(QUESTIONS[:2])
    assert heard.verdicts == (
        Unreadable("the endpoint refused the question: This model's maximum context length is 512 tokens."),
        Verdict(1.0),
    )
    assert len(server.asked) == 2
    assert heard.totals["tokens"] == 301  # nothing is counted for what was refused


def test_the_same_request_twice_is_one_call(cache: RecordCache) -> None:
    server = Answering(lambda body: first_with(0.75))
    heard = judging(server, cache).ask((*QUESTIONS[:2], QUESTIONS[0]))
    assert len(server.asked) == 2
    assert heard.verdicts[0] == heard.verdicts[2]
    again = judging(server, cache).ask(QUESTIONS[:3])
    assert len(server.asked) == 3
    assert again.verdicts[:2] == heard.verdicts[:2]
    assert again.totals == {"requests": 1, "cached": 2, "asked_again": 0, "tokens": 301, "estimated": 0}


@pytest.mark.parametrize(
    "changed", [{"model": "K"}, {"read": "answer"}, {"base_url": "http://localhost:2/v1"}], ids=str
)
def test_a_changed_request_is_a_new_one(changed: dict[str, str], cache: RecordCache) -> None:
    server = Answering(lambda body: first_with(0.75) if "logprobs" in body else said("1"))
    judging(server, cache, read="log-probs").ask(QUESTIONS[:1])
    settings = {"base_url": "http://localhost:1/v1", "model": "J", "read": "log-probs", **changed}
    server.base_urls = (settings["base_url"],)
    asker = Asker(server, settings["model"], Budget(), cache)  # type: ignore[arg-type]
    other = EndpointJudge(asker, EndpointAnnotator(**settings))  # type: ignore[arg-type]
    other.ask(QUESTIONS[:1])
    assert len(server.asked) == 2
    other.ask([Question(QUESTIONS[0].text, ("2", "1"))])
    assert len(server.asked) == 3


def test_an_answer_is_kept_whole_but_for_secrets(cache: RecordCache) -> None:
    """Probabilities of 0 and broken characters too."""
    reply = first_with(0.75)
    top = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    top += [{"token": "a secret", "logprob": -math.inf}, {"token": "\ud800", "logprob": -9.0}]
    reply["choices"][0]["message"]["content"] = "secret"
    server = Answering(lambda body: reply)
    first = judging(server, cache).ask(QUESTIONS[:1])
    assert judging(server, cache).ask(QUESTIONS[:1]).verdicts == first.verdicts
    assert len(server.asked) == 1
    asker = Asker(server, "J", Budget(), cache)  # type: ignore[arg-type]
    kept = asker.recall(server.asked[0], QUESTIONS[0].labels)
    assert kept is not None and (kept["text"], kept["cut_off"]) == ("***", True)
    assert kept["top"][2:] == [["a ***", -math.inf], ["\ud800", -9.0]]


def test_an_answer_to_the_second_ask_is_kept(cache: RecordCache) -> None:
    server = Answering(lambda body: said("1" if text_of(body).endswith(AGAIN) else "Both!"))
    judging(server, cache).ask(QUESTIONS)
    asked = len(server.asked)
    heard = judging(server, cache).ask(QUESTIONS)
    assert heard.verdicts == (Verdict(1.0),) * 4
    assert len(server.asked) == asked
    assert heard.totals["requests"] == heard.totals["tokens"] == 0


def test_what_could_not_be_read_is_asked_by_the_next_run(cache: RecordCache) -> None:
    judging(Answering(lambda body: said("1" if "0" in text_of(body) else "?")), cache).ask(QUESTIONS)
    mended = Answering(lambda body: said("2"))
    heard = judging(mended, cache, read="answer").ask(QUESTIONS)
    assert heard.verdicts == (Verdict(1.0), *(Verdict(0.0),) * 3)
    assert sorted(mended.texts) == ["Question 1", "Question 2", "Question 3"]
    assert len(cache) == 5  # with the mark that there are some


def test_a_budget_is_used_up_and_no_more(cache: RecordCache) -> None:
    server = Answering(lambda body: said("1"))
    budget = Budget(max_requests=3)
    with pytest.raises(AnnotatorError) as caught:
        judging(server, cache, budget, read="answer").ask(QUESTIONS)
    assert str(caught.value).startswith("annotator J: annotator.max_requests 3 does not allow for another")
    assert str(caught.value).endswith("; verdicts up to here are kept and not paid for again")
    assert len(server.asked) == 3
    more = judging(server, cache, Budget(max_requests=1), read="answer").ask(QUESTIONS)
    assert more.verdicts == (Verdict(1.0),) * 4
    assert len(server.asked) == 4
    with pytest.raises(AnnotatorError) as caught:
        judging(server, None, Budget(max_requests=0), read="answer").ask(QUESTIONS)
    assert "not paid for again" not in str(caught.value)


def test_a_budget_in_tokens_is_used_up_although_estimates_are_high() -> None:
    """Each question is estimated at 37 tokens and takes 5, so that more than the first batch of them fits."""
    server = Answering(lambda body: said("1") | {"usage": {"prompt_tokens": 4, "completion_tokens": 1}})
    questions = [Question(f"Question {number:4}") for number in range(20)]
    with pytest.raises(AnnotatorError, match="max_tokens 100 does not allow"):
        judging(server, None, Budget(max_tokens=100), read="answer").ask(questions)
    assert server.batches[:2] == [1, 2]
    assert 100 - 37 < 5 * len(server.asked) <= 100


def test_what_was_taken_is_reported() -> None:
    """A cost where there are prices, and an estimate where usage is missing."""
    server = Answering(lambda body: said("1"))
    heard = judging(server, None, Budget(input_price=1.0, output_price=10.0), read="answer").ask(QUESTIONS)
    assert heard.totals["cost"] == pytest.approx(4 * (300 + 10) / 1e6)
    server.answer = lambda body: {**said("1"), "usage": None}
    totals = judging(server, None, Budget(input_price=1.0), read="answer").ask(QUESTIONS).totals
    assert "cost" not in totals and totals["estimated"] == 4
    assert totals["tokens"] == 4 * (math.ceil(len("Question 0") / 3) + 32)


def test_a_fault_lets_go_of_what_it_had_reserved(cache: RecordCache) -> None:
    def answer(body: Mapping[str, Any]) -> Reply:
        if text_of(body) == "Question 1":
            raise AnnotatorError("the server is down")
        return said("1")

    server = Answering(answer)
    budget = Budget(max_requests=4)
    judge = judging(server, cache, budget, read="answer")
    with pytest.raises(AnnotatorError, match="the server is down"):
        judge.ask(QUESTIONS)
    assert budget.used.requests == 3
    server.answer = lambda body: said("2")
    assert judge.ask(QUESTIONS).verdicts == (Verdict(1.0), Verdict(0.0), Verdict(1.0), Verdict(1.0))
    assert budget.used.requests == 4


def test_nothing_is_asked_once_the_user_wants_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueup.stop._signal", "SIGTERM")
    server = Answering(lambda body: said("1"))
    judge = judging(server)
    with pytest.raises(Stopped):
        judge.ask(QUESTIONS)
    assert not server.asked
    assert judge.ask([]).verdicts == ()
