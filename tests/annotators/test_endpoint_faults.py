"""Whatever an endpoint does, there is one clear line, no judgement is paid for twice, and the key goes nowhere else."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faulty_server import Answer, FaultyServer, ReceivedRequest, Reply
from support.judge_answers import Until, first_with, said, shown, text_of

from trueup.annotators.annotator import Annotated
from trueup.annotators.asker import judgement_cache
from trueup.annotators.comparing import ComparingAnnotator
from trueup.annotators.endpoint import load_endpoint_annotator
from trueup.errors import AnnotatorError, InputError, Stopped
from trueup.feedback.records import Comparison, Discarded, Example, Prompt, Response
from trueup.record_cache import RecordCache
from trueup.settings.annotator_kinds import EndpointAnnotator

PAIRS = 10
QUESTIONS = 2 * PAIRS
EXAMPLES = [
    Example(Prompt(f"Prompt {n}"), (Response(f"Short {n}"), Response(f"A longer response {n}"))) for n in range(PAIRS)
]


def longer(asked: ReceivedRequest) -> Answer:
    """A sound judge: prefers the longer response by 4 to 1."""
    first, second = shown(asked)
    return first_with(0.8 if len(first) > len(second) else 0.2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_time: None) -> Path:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    return tmp_path / "cache" / "judgements" / "judgements.sqlite"


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer(longer) as running:
        yield running


Loading = Callable[..., ComparingAnnotator]


@pytest.fixture
def loaded(server: FaultyServer) -> Loading:
    def load(*, usage_file: Path | None = None, **given: Any) -> ComparingAnnotator:
        choice = {"concurrency": 3, "timeout": 300.0, "deadline": 100.0, **given}
        return load_endpoint_annotator(EndpointAnnotator(server.url, "J", **choice), usage_file=usage_file)

    return load


def is_sound(annotated: Annotated) -> None:
    for example in annotated.examples:
        assert isinstance(example, Example)
        (comparison,) = example.comparisons
        assert comparison == Comparison(1, 0, comparison.probability)
        assert comparison.probability == pytest.approx(0.8)


def test_one_of_several_judges_that_is_gone_is_left_out_and_told(
    server: FaultyServer, caplog: pytest.LogCaptureFixture
) -> None:
    with FaultyServer(longer) as other, FaultyServer(longer) as gone:
        gone.stop()
        urls = (gone.url, server.url, other.url)
        annotator = load_endpoint_annotator(EndpointAnnotator(urls, "J", concurrency=4, deadline=100.0))
        with caplog.at_level(logging.WARNING):
            is_sound(annotator.annotate(EXAMPLES))
        asked = len(server.asked), len(other.asked)
    assert sum(asked) == QUESTIONS and min(asked) > QUESTIONS // 4
    (told,) = [one.getMessage() for one in caplog.records]
    assert told.startswith(gone.url) and told.endswith("it is left out for a while, and the others are asked")


def test_a_sound_endpoint_is_asked_once(loaded: Loading, server: FaultyServer, told: list[str]) -> None:
    assert loaded().annotate([]).examples == () and not server.asked
    annotated = loaded().annotate(EXAMPLES)
    is_sound(annotated)
    assert annotated.totals["requests"] == annotated.totals["verdicts"] == QUESTIONS == len(server.asked)
    assert annotated.totals["first"] == pytest.approx(QUESTIONS / 2)
    assert annotated.totals["tokens"] == 301 * QUESTIONS
    assert server.most_at_once <= 3
    assert not told
    assert "authorization" not in server.asked[0].headers
    again = loaded().annotate(EXAMPLES)
    assert again.examples == annotated.examples
    assert again.totals["cached"] == QUESTIONS == len(server.asked)
    assert again.totals["requests"] == 0
    loaded(cache=False).annotate(EXAMPLES)
    assert len(server.asked) == 2 * QUESTIONS


LASTING: dict[str, tuple[Answer, str]] = {
    "down": (Reply(close=True), "no connection|the connection broke"),
    "401": (Reply(401, {"error": {"message": "Who?"}}), "environment variable OPENAI_API_KEY"),
    "truncated JSON": (Reply(200, b'{"choices": [{"message": {"content": "1'), "not JSON"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_lasts_stops_with_one_line(
    fault: str, loaded: Loading, server: FaultyServer, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And once it is mended, what is missing is asked for, and nothing else."""
    answer, words = LASTING[fault]
    failing = server.answers = Until(9, answer, longer)
    with pytest.raises(AnnotatorError, match=words) as caught:
        loaded().annotate(EXAMPLES)
    for line in (str(caught.value), *told):
        assert "\n" not in line
        assert server.url in line
    assert len(failing.answered) == 9
    assert capsys.readouterr() == ("", "")

    server.answers = longer
    server.asked.clear()
    annotated = loaded().annotate(EXAMPLES)
    is_sound(annotated)
    assert annotated.totals["cached"] == 9
    asked_now = [text_of(asked) for asked in server.asked]
    assert len(asked_now) == QUESTIONS - 9
    assert not set(asked_now) & set(failing.answered)


@pytest.mark.parametrize("fault", [Reply(503), Reply(close=True)], ids=["503", "down"])
def test_a_fault_that_passes_costs_nothing(fault: Reply, loaded: Loading, server: FaultyServer) -> None:
    """Every request fails once, and one is enough in the budget for each question."""
    seen: set[str] = set()
    lock = threading.Lock()

    def once(asked: ReceivedRequest) -> Answer:
        with lock:
            new = text_of(asked) not in seen
            seen.add(text_of(asked))
        return fault if new else longer(asked)

    server.answers = once
    annotated = loaded(max_requests=4, concurrency=4).annotate(EXAMPLES[:2])
    is_sound(annotated)
    assert annotated.totals["requests"] == 4
    assert len(server.asked) == 8


@pytest.mark.parametrize(
    ("answer", "repeated"),
    [
        (said("1 and 2"), 1),
        (Reply(400, {"error": {"message": "The maximum context length is 8 tokens. Yours: 9."}}), 0),
    ],
    ids=["both labels", "too long"],
)
def test_an_answer_that_is_none_is_never_a_preference(
    answer: Answer, repeated: int, loaded: Loading, server: FaultyServer
) -> None:
    """One question of one pair is answered so in one order, and the pair is dropped."""
    server.answers = lambda asked: answer if shown(asked)[0] == "Short 5" else longer(asked)
    annotated = loaded().annotate(EXAMPLES)
    assert isinstance(annotated.examples[5], Discarded)
    is_sound(Annotated((*annotated.examples[:5], *annotated.examples[6:])))
    assert (annotated.totals["unreadable"], annotated.totals["asked_again"]) == (1, repeated)
    server.asked.clear()
    server.answers = longer
    is_sound(loaded().annotate(EXAMPLES))
    assert len(server.asked) == 1  # the other order of that pair was paid for


def test_the_budget_of_a_run_that_goes_on(loaded: Loading, server: FaultyServer, tmp_path: Path) -> None:
    """What was used before counts, and what was judged before costs nothing."""
    spent = tmp_path / "spent.json"
    first = loaded(max_requests=9, usage_file=spent)
    with pytest.raises(AnnotatorError, match=r"annotator\.max_requests 9 does not allow for another request"):
        first.annotate(EXAMPLES)
    assert len(server.asked) == 9
    resumed = loaded(max_requests=QUESTIONS, usage_file=spent)
    is_sound(resumed.annotate(EXAMPLES))
    assert len(server.asked) == QUESTIONS
    with pytest.raises(AnnotatorError, match="20 requests and 6,020 tokens are spent"):
        resumed.annotate([Example(Prompt("One more"), (Response("a"), Response("bb")))])
    assert len(server.asked) == QUESTIONS


def test_stopping_does_not_wait_for_an_answer(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was answered by then is kept."""
    failing = server.answers = Until(9, Reply(delay=300.0), longer)

    def poll() -> None:
        if len(server.asked) >= 12:
            raise Stopped("SIGTERM")

    choice = EndpointAnnotator(base_url=server.url, model="J", concurrency=3, timeout=300.0)
    began = time.monotonic()
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("trueup.stop.check", poll)
        load_endpoint_annotator(choice).annotate(EXAMPLES)
    assert time.monotonic() - began < 100
    server.answers = longer
    server.asked.clear()
    is_sound(load_endpoint_annotator(choice).annotate(EXAMPLES))
    assert len(server.asked) == QUESTIONS - 9
    assert not {text_of(asked) for asked in server.asked} & set(failing.answered)


RUN = """
import sys
from trueup.annotators.endpoint import load_endpoint_annotator
from trueup.settings.annotator_kinds import EndpointAnnotator
from trueup.feedback.records import Example, Prompt, Response
examples = [
    Example(Prompt(f"Prompt {n}"), (Response(f"Short {n}"), Response(f"A longer response {n}")))
    for n in range(int(sys.argv[2]))
]
load_endpoint_annotator(EndpointAnnotator(base_url=sys.argv[1], model="J", concurrency=3)).annotate(examples)
"""


def test_a_run_that_is_killed_pays_twice_only_for_what_was_under_way(
    server: FaultyServer, loaded: Loading, own_cache: Path
) -> None:
    failing = server.answers = Until(9, Reply(delay=300.0), longer)
    process = subprocess.Popen([sys.executable, "-c", RUN, server.url, str(PAIRS)])
    try:
        until = time.monotonic() + 300
        while len(server.asked) < 12 or len(judgement_cache(own_cache)) < 9:
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=300)
    under_way = {text_of(asked) for asked in server.asked} - set(failing.answered)
    assert len(under_way) == 3
    server.answers = longer
    server.asked.clear()
    annotated = loaded().annotate(EXAMPLES)
    is_sound(annotated)
    asked_now = {text_of(asked) for asked in server.asked}
    assert len(server.asked) == len(asked_now) == QUESTIONS - 9
    assert under_way < asked_now
    assert not asked_now & set(failing.answered)


def test_a_disk_that_fills_up_stops_at_once(
    server: FaultyServer, loaded: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every further verdict would be paid for and lost; and no request is left under way."""
    server.answers = Until(9, Reply(delay=300.0), longer)
    kept = RecordCache.put

    def full(cache: RecordCache, key: str, answer: Any) -> None:
        if len(cache) == 5:
            raise InputError("the disk is full")
        kept(cache, key, answer)

    monkeypatch.setattr(RecordCache, "put", full)
    annotator = loaded()
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        annotator.annotate(EXAMPLES)
    assert str(caught.value) == "the disk is full"
    assert time.monotonic() - began < 100
    assert not [thread.name for thread in threading.enumerate() if "portal" in thread.name]


KEY = "canary-5f2a9c41d7"
ECHO = {"error": {"message": f"Incorrect key provided: {KEY}, from Authorization: Bearer {KEY}"}}


def repeating(key: str) -> dict[str, Any]:
    """A sound reply of an endpoint that repeats the key beside it."""
    reply = first_with(0.7)
    choice = reply["choices"][0]
    choice["message"]["content"] = key
    choice["logprobs"]["content"][0]["top_logprobs"].append({"token": key, "logprob": -9.0})
    return reply


ANSWERS: dict[str, Answer] = {
    "sound": repeating(KEY), "401": Reply(401, ECHO), "answer": said(KEY), "refusal": said(None, refusal=KEY),
}  # fmt: skip


def choice(url: str, **given: object) -> EndpointAnnotator:
    return EndpointAnnotator(url, "J", key_variable="JUDGE_KEY", concurrency=3, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ANSWERS)
def test_the_key_is_nowhere(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "httpcore2")  # at DEBUG it traces the headers that a server sends
    shown: list[str] = []
    with FaultyServer([ANSWERS[fault]]) as server:
        annotator = load_endpoint_annotator(choice(server.url, deadline=20.0))
        try:
            annotated = annotator.annotate(EXAMPLES)
            shown += [repr(annotated)]
        except AnnotatorError as error:
            shown += [str(error), "".join(traceback.format_exception(error))]
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    judge = annotator.judge
    asker = judge.asker  # type: ignore[attr-defined]
    parts = [annotator, judge, asker, *vars(judge).values(), *vars(annotator).values(), *vars(asker).values()]
    parts += vars(asker.endpoint).values()
    shown += [repr(part) + str(part) for part in parts]
    shown += [repr(asker.budget.used), caplog.text, *capsys.readouterr()]
    shown += [repr(vars(record)) for record in caplog.records]
    assert not [text for text in shown if KEY in text]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "judgements.sqlite" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_key_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine none may be needed; elsewhere it is said before anything is sampled."""
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(InputError) as caught:
        load_endpoint_annotator(choice("https://judges.example/v1"))
    assert str(caught.value) == (
        "annotator.base_url https://judges.example/v1: the environment variable JUDGE_KEY is not set; export the "
        "endpoint's key under that name (any text where it wants none), or give annotator.key_variable"
    )
    for host in ("localhost", "127.0.0.1", "[::1]", "judge.localhost"):
        load_endpoint_annotator(choice(f"http://{host}:9/v1"))
    with FaultyServer([Reply(401, {"error": "Who?"})]) as server:
        with pytest.raises(AnnotatorError, match="environment variable JUDGE_KEY"):
            load_endpoint_annotator(choice(server.url)).annotate(EXAMPLES)
        assert "authorization" not in server.asked[0].headers


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="judgements cannot be kept there"):
        load_endpoint_annotator(choice("http://127.0.0.1:9/v1"))
    load_endpoint_annotator(choice("http://127.0.0.1:9/v1", cache=False))
