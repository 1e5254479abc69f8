"""Demonstrations over a real connection: paid for once, within a budget, and stopped where too many are of no use."""

from pathlib import Path
from typing import Any

import pytest
from support.faulty_server import Asked, FaultyServer, Reply, chat
from support.gathering_work import work_at

from trueup.annotators.asker import NoAnswer
from trueup.errors import AnnotatorError
from trueup.feedback.records import Comparison, Discarded, Example, Origin, Prompt, Response
from trueup.gathering import annotating
from trueup.gathering.annotating import (
    EMPTY,
    REPEATS,
    Demonstrator,
    Pair,
    make_demonstrator,
    pair_of,
    rewrite,
)
from trueup.settings.annotator_settings import EndpointAnnotator
from trueup.settings.gathering_settings import AnnotateSettings

KEY = "canary-7d1f5a"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def example(number: int, prompt: str = "") -> Example:
    responses = (Response(f"good {number}"), Response(f"bad {number}"))
    return Example(
        Prompt(prompt or f"p{number}", origin=Origin("a.jsonl", number)), responses, (Comparison(0, 1),)
    )


def pairs(count: int) -> list[Pair]:
    found = [pair_of(example(number)) for number in range(1, count + 1)]
    return [one for one in found if isinstance(one, Pair)]


def demonstrator(server: FaultyServer, *, temperature: float = 0.0, **settings: Any) -> Demonstrator:
    choice = EndpointAnnotator(server.url, "gpt", **settings)
    return make_demonstrator(
        AnnotateSettings(
            data=("a.jsonl",), output="out.jsonl", annotator=choice, rewrite=True, rewrite_template="answer",
            rewrite_tokens=99, rewrite_temperature=temperature, seed=5,
        )
    )  # fmt: skip


def echo(asked: Asked) -> Reply:
    """Says what it was asked."""
    return chat(f"Answer to {asked.body['messages'][-1]['content']}", prompt_tokens=20, completion_tokens=7)


def test_what_is_sent_and_what_comes_back() -> None:
    with FaultyServer(echo) as server:
        made, facts = demonstrator(server).write(pairs(3))
        warm, _ = demonstrator(server, temperature=0.7).write(pairs(1))
    assert made == ["Answer to p1", "Answer to p2", "Answer to p3"]
    assert warm == ["Answer to p1"]
    assert {asked.path for asked in server.asked} == {"/v1/chat/completions"}
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    plain = {"model": "gpt", "temperature": 0.0, "max_tokens": 99}
    sent = sorted(server.bodies[:3], key=lambda body: str(body["messages"]))
    assert sent == [plain | {"messages": [{"role": "user", "content": f"p{number}"}]} for number in (1, 2, 3)]
    assert (server.bodies[3]["temperature"], server.bodies[3]["seed"]) == (0.7, 5)
    assert facts == {"requests": 3.0, "cached": 0.0, "tokens": 81.0, "estimated": 0.0}


def test_nothing_is_paid_for_twice(tmp_path: Path) -> None:
    """Not by another process, not within one call; what is unusable is asked for again."""
    answers: dict[str, str | None] = {"p1": "fine", "p2": None}

    def reply(asked: Asked) -> Reply:
        return chat(answers[asked.body["messages"][0]["content"]])

    with FaultyServer(reply) as server:
        first, _ = demonstrator(server, max_unreadable=1).write([*pairs(2), *pairs(1)])
        assert first == ["fine", Discarded(NoAnswer.ABSENT), "fine"]
        assert len(server.asked) == 2
        answers["p2"] = "well"
        again, facts = demonstrator(server).write([*pairs(2), *pairs(1)])
        assert again == ["fine", "well", "fine"]
        assert (len(server.asked), facts["cached"], facts["requests"]) == (3, 1.0, 1.0)
        demonstrator(server, cache=False).write(pairs(1))
        assert len(server.asked) == 4
    kept = b"".join(file.read_bytes() for file in (tmp_path / "cache").rglob("*") if file.is_file())
    assert b"fine" in kept and KEY.encode() not in kept


def test_a_budget_is_kept_to_and_what_was_paid_for_is_kept() -> None:
    with FaultyServer(echo) as server:
        with pytest.raises(
            AnnotatorError, match=r"gpt: annotator\.max_requests 2 does not allow for another request"
        ):
            demonstrator(server, max_requests=2).write(pairs(5))
        assert len(server.asked) == 2
        made, facts = demonstrator(server).write(pairs(5))
        assert len(made) == 5 and facts["cached"] == 2.0


def test_a_request_that_is_refused_is_dropped_alone() -> None:
    def reply(asked: Asked) -> Reply:
        if asked.body["messages"][0]["content"] == "p2":
            return Reply(400, {"error": {"message": "maximum context length is 512 tokens"}})
        return echo(asked)

    with FaultyServer(reply) as server:
        made, facts = demonstrator(server).write(pairs(3))
    assert made[::2] == ["Answer to p1", "Answer to p3"]
    assert isinstance(made[1], Discarded) and made[1].reason.startswith(
        "the endpoint refused the request: '400"
    )
    assert facts["requests"] == 3.0


def test_too_many_that_are_of_no_use_stop_the_work() -> None:
    """Two of nineteen say nothing of the share; of twenty, three are more than a tenth."""

    def reply(asked: Asked) -> Reply:
        bad = {"p1": "bad 1", "p2": "", "p20": "Human: hi"}
        text = str(asked.body["messages"][0]["content"])
        return chat(bad.get(text, text))

    with FaultyServer(reply) as server:
        assert len(demonstrator(server).write(pairs(19))[0]) == 19
        with pytest.raises(AnnotatorError) as caught:
            demonstrator(server).write(pairs(20))
        demonstrator(server, max_unreadable=0.15).write(pairs(20))
    assert str(caught.value).startswith(
        f"gpt: 3 of 20 demonstrations (15%) cannot be used, and no more than 10% may: {REPEATS} (1), "
    )
    assert str(caught.value).endswith("Choose another model, or raise annotator.max_unreadable")


def rewritten(output: Path, writer: Demonstrator, examples: list[Example]) -> tuple[Example, ...]:
    with work_at(output) as work:
        return rewrite(examples, writer, work)


def test_a_file_of_pairs_becomes_one_of_demonstrations_and_points(tmp_path: Path, told: list[str]) -> None:
    def reply(asked: Asked) -> Reply:
        texts = {"p1": "a b c d", "p2": "good 2", "p3": ""}
        return chat(texts[asked.body["messages"][0]["content"]])

    alone = Example(Prompt("q", origin=Origin("a.jsonl", 4)), (Response("x"),))
    with FaultyServer(reply) as server:
        load = lambda: demonstrator(server, max_unreadable=1)  # noqa: E731
        examples = [*map(example, (1, 2, 3)), alone]
        found = rewritten(tmp_path / "out", load(), examples)
        assert len(server.asked) == 3
        first = told[:]
        assert rewritten(tmp_path / "out", load(), examples) == found
        assert len(server.asked) == 3 and told == first * 2
    assert [[(one.content, one.label, one.demonstration) for one in made.responses] for made in found] == [
        [("a b c d", None, True), ("bad 1", 0.0, False)],
        [("good 2", None, True), ("bad 2", 0.0, False)],
    ]
    assert first[:4] == [
        "2 chosen responses rewritten by gpt: 3.0 words on average, where they had 2.0",
        "1 of them say what the chosen response said",
        "2 rejected responses kept as points with the label 0",
        f"2 examples left out: 1 for nothing compares two responses (a.jsonl:4), 1 for {EMPTY} (a.jsonl:3)",
    ]
    assert first[4].startswith("endpoint: 3 requests, ")


def test_work_that_failed_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cache, so that what is kept beside the output is all there is."""
    monkeypatch.setattr(annotating, "CHUNK", 2)
    down = True

    def reply(asked: Asked) -> Reply:
        if down and asked.body["messages"][0]["content"] in ("p3", "p4"):
            return Reply(401)
        return echo(asked)

    examples = [example(number) for number in range(1, 6)]
    with FaultyServer(reply) as server:
        load = lambda: demonstrator(server, cache=False)  # noqa: E731
        with pytest.raises(AnnotatorError):
            rewritten(tmp_path / "out", load(), examples)
        before, down = len(server.asked), False
        found = rewritten(tmp_path / "out", load(), examples)
        assert len(server.asked) - before == 3
        whole = rewritten(tmp_path / "other", load(), examples)
    assert found == whole and len(found) == 5
