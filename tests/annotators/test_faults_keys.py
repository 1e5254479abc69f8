"""A key goes to the endpoint, and nowhere else: not into a message, a warning, a record, a file or a representation."""

import logging
import traceback
from pathlib import Path

import pytest
from support.faulty_server import Answer, FaultyServer, Reply
from support.judge_answers import first_with, said

from trueup.annotators.endpoint import load_endpoint_annotator
from trueup.errors import AnnotatorError, InputError
from trueup.feedback.records import Example, Prompt, Response
from trueup.settings.annotator_settings import EndpointAnnotator

KEY = "canary-5f2a9c41d7"
EXAMPLES = [
    Example(
        Prompt(f"Prompt {number}"), (Response(f"Short {number}"), Response(f"A longer response {number}"))
    )
    for number in range(10)
]
ECHO = {"error": {"message": f"Incorrect key provided: {KEY}, from Authorization: Bearer {KEY}"}}

ANSWERS: dict[str, Answer] = {
    "sound": first_with(0.7),
    "401": Reply(401, ECHO),
    "403": Reply(403, ECHO),
    "400": Reply(400, ECHO),
    "429": Reply(429, ECHO),
    "500": Reply(500, ECHO),
    "404": Reply(404, ECHO),
    "HTML": Reply(200, f"<html>{KEY}</html>"),
    "redirect": Reply(302, headers={"Location": f"http://other.example/?key={KEY}"}),
    "error with 200": ECHO,
    "answer": said(KEY),
    "refusal": said(None, refusal=KEY),
}


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_time: None) -> None:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUDGE_KEY", KEY)


def choice(url: str, **given: object) -> EndpointAnnotator:
    return EndpointAnnotator(
        base_url=url,
        model="J",
        key_variable="JUDGE_KEY",
        concurrency=3,
        **given,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("fault", ANSWERS)
def test_the_key_is_nowhere(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "httpcore2")  # at DEBUG it traces the headers that a server sends
    said_aloud: list[str] = []
    with FaultyServer([ANSWERS[fault]]) as server:
        annotator = load_endpoint_annotator(choice(server.url, deadline=20.0))
        try:
            annotated = annotator.annotate(EXAMPLES)
            said_aloud += [repr(annotated)]
        except AnnotatorError as error:
            said_aloud += [str(error), "".join(traceback.format_exception(error))]
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    judge = annotator.judge
    asker = judge.asker  # type: ignore[attr-defined]
    parts = [annotator, judge, asker, *vars(judge).values(), *vars(annotator).values(), *vars(asker).values()]
    parts += vars(asker.endpoint).values()
    said_aloud += [repr(part) + str(part) for part in parts]
    said_aloud += [repr(asker.budget.spent), caplog.text, *capsys.readouterr()]
    said_aloud += [repr(vars(record)) for record in caplog.records]
    assert not [text for text in said_aloud if KEY in text]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "judgements.sqlite" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_key_in_an_answer_that_is_kept(tmp_path: Path) -> None:
    """An endpoint could repeat the key beside its answer."""
    reply = first_with(0.7)
    choices = reply["choices"][0]
    choices["message"]["content"] = KEY
    choices["logprobs"]["content"][0]["top_logprobs"].append({"token": KEY, "logprob": -9.0})
    with FaultyServer([reply]) as server:
        for _ in range(2):
            annotated = load_endpoint_annotator(choice(server.url)).annotate(EXAMPLES[:2])
            assert annotated.facts["first"] == pytest.approx(4 * 0.7)
        assert len(server.asked) == 4
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
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
    for url in (
        "http://localhost:9/v1",
        "http://127.0.0.1:9/v1",
        "http://[::1]:9/v1",
        "http://judge.localhost:9/v1",
    ):
        load_endpoint_annotator(choice(url))
    with FaultyServer([Reply(401, {"error": "Who?"})]) as server:
        with pytest.raises(AnnotatorError, match="environment variable JUDGE_KEY"):
            load_endpoint_annotator(choice(server.url)).annotate(EXAMPLES)
        assert "authorization" not in server.asked[0].headers


def test_no_secret_can_be_in_the_address() -> None:
    for url in (f"http://user:{KEY}@127.0.0.1:9/v1", f"http://127.0.0.1:9/v1?key={KEY}"):
        with pytest.raises(ValueError) as caught:
            choice(url)
        assert KEY not in str(caught.value)


def test_nothing_is_asked_before_there_is_something_to_judge() -> None:
    with FaultyServer() as server:
        annotator = load_endpoint_annotator(choice(server.url))
        assert annotator.annotate([]).examples == ()
        assert not server.asked


def test_a_template_that_is_not_there_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(InputError, match="no-such-template"):
        load_endpoint_annotator(choice("http://127.0.0.1:9/v1", template="no-such-template"))


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="judgements cannot be kept there"):
        load_endpoint_annotator(choice("http://127.0.0.1:9/v1"))
    load_endpoint_annotator(choice("http://127.0.0.1:9/v1", cache=False))
