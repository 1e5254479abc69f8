"""Several requests at once to a real server: how many, in which order, and what happens when one shows that none can
be answered, or the user stops."""

import asyncio
import threading
import time
from typing import Any

import pytest
from support.faulty_server import FaultyServer, ReceivedRequest, Reply
from support.virtual_time import post

from trueup import stop
from trueup.endpoints.addresses import on_this_machine
from trueup.endpoints.client import Endpoint
from trueup.endpoints.key import Key
from trueup.errors import AnnotatorError, Stopped


def connected(server: FaultyServer, **changes: Any) -> Endpoint:
    settings: dict[str, Any] = dict(key=Key(""), timeout=20.0, deadline=20.0, concurrency=4)
    return Endpoint(server.url, **{**settings, **changes})


def number(asked: ReceivedRequest) -> int:
    return int(asked.body["number"])


BODIES = [{"number": one} for one in range(12)]
WAIT = 60.0  # seconds until a test that waits for something fails; no busy machine takes as long


@pytest.mark.parametrize("concurrency", [1, 3])
def test_as_many_at_a_time_as_allowed(concurrency: int) -> None:
    """Each answer waits for as many requests as may be under way."""
    together = threading.Barrier(concurrency, timeout=WAIT)

    def answer(asked: ReceivedRequest) -> Reply:
        together.wait()
        return Reply(body={"said": number(asked)})

    with FaultyServer(answer) as server:
        made = connected(server, concurrency=concurrency)
        assert list(made.each("/x", [])) == [] == server.asked
        answers = dict(made.each("/x", BODIES))
        assert answers == {one: {"said": one} for one in range(12)}
        assert server.most_at_once == concurrency
        assert {asked.path for asked in server.asked} == {"/v1/x"}


def test_answers_come_out_as_they_come_in() -> None:
    others = threading.Event()
    order: list[int] = []

    def answer(asked: ReceivedRequest) -> Reply:
        return Reply(body={"waited": number(asked) > 0 or others.wait(WAIT)})

    with FaultyServer(answer) as server:
        for one, reply in connected(server).each("/x", BODIES):
            assert reply == {"waited": True}
            order.append(one)
            if len(order) == 11:
                others.set()
        assert order[-1] == 0
        assert sorted(order) == list(range(12))


def test_faults_over_a_real_connection() -> None:
    cut, slow = Reply(body={"a": "b" * 100}, cut=20), Reply(delay=30)
    with FaultyServer([Reply(close=True), cut, slow, Reply(500), Reply(body={"a": 1})]) as server:
        began = time.monotonic()
        assert post(connected(server, timeout=0.5)) == {"a": 1}
        assert len(server.asked) == 5 and time.monotonic() - began < 30


def test_what_was_answered_is_handed_out_before_the_error() -> None:
    """And what is under way is waited for: it is paid for."""

    under_way, refused = threading.Event(), threading.Event()

    def answer(asked: ReceivedRequest) -> Reply:
        if number(asked) == 1:
            under_way.wait(WAIT)
            refused.set()
            return Reply(401, {"error": "no"})
        if number(asked) == 0:
            return Reply()
        under_way.set()
        refused.wait(WAIT)
        return Reply(body={"said": number(asked)}, delay=0.1)

    with FaultyServer(answer) as server:
        got: list[int] = []
        with pytest.raises(AnnotatorError, match="401"):
            for one, _ in connected(server, concurrency=3).each("/x", BODIES[:4] + BODIES[4:6] * 500):
                got.append(one)
        assert {0, 2} <= set(got)
        answered = [asked for asked in server.asked if number(asked) != 1]
        assert len(got) == len(answered)
        assert len(answered) < 900


def test_the_first_that_gives_up_ends_the_pauses_of_the_others() -> None:
    replies = {0: Reply(429, headers={"Retry-After": "300"}), 1: Reply(403, delay=0.2)}
    with FaultyServer(lambda asked: replies[number(asked)]) as server:
        began = time.monotonic()
        with pytest.raises(AnnotatorError, match="403"):
            list(connected(server, deadline=600.0).each("/x", BODIES[:2]))
        assert time.monotonic() - began < 100
        assert len(server.asked) == 2


@pytest.mark.parametrize("reply", [Reply(delay=300), Reply(429, headers={"Retry-After": "300"})], ids=["wait", "pause"])
def test_a_stop_ends_waiting_and_keeps_what_is_there(reply: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer(lambda asked: reply if number(asked) == 1 else Reply(body={})) as server:
        began = time.monotonic()
        got = []
        with pytest.raises(Stopped):
            for one, _ in connected(server, timeout=600.0, deadline=600.0).each("/x", BODIES):
                got.append(one)
                if len(got) == 11:
                    monkeypatch.setattr(stop, "_signal", "SIGINT")
        assert sorted(got) == [0, *range(2, 12)]
        assert time.monotonic() - began < 100


def test_answers_that_are_not_taken_are_not_waited_for() -> None:
    with FaultyServer(lambda asked: Reply(body={}, delay=0.0 if number(asked) == 0 else 30)) as server:
        began = time.monotonic()
        answers = connected(server).each("/x", BODIES)
        assert next(answers)[0] == 0
        answers.close()
        assert time.monotonic() - began < 30


def test_threads_share_an_endpoint() -> None:
    with FaultyServer(lambda asked: {"said": number(asked)}) as server:
        shared = connected(server, key=Key("k3y-for-all"))
        found: dict[int, Any] = {}

        def ask(one: int) -> None:
            found[one] = post(shared, body={"number": one})["said"]

        threads = [threading.Thread(target=ask, args=(one,)) for one in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {one: one for one in range(8)}
        assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer k3y-for-all"}


def test_a_server_that_is_gone_is_said_once(told: list[str]) -> None:
    first = FaultyServer([Reply(body={"a": 1})])
    first.stop()
    with pytest.raises(AnnotatorError, match=r"no connection.*check base_url, and that the server is running"):
        post(connected(first, deadline=1.0))
    assert len(told) == 1


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer([Reply(body={"a": 1})]) as server, FaultyServer([Reply(403)]) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert post(connected(server)) == {"a": 1}
        assert proxy.asked == []
    hosts = ("localhost", "x.localhost", "127.0.0.5", "[::1]", "local.example", "128.0.0.1", "xlocalhost")
    assert [on_this_machine(f"http://{host}:8000/v1") for host in hosts] == [True] * 4 + [False] * 3


def test_inside_another_event_loop() -> None:
    """As in a notebook."""

    async def cell(made: Endpoint) -> Any:
        return post(made)

    with FaultyServer([Reply(body={"a": 1})]) as server:
        assert asyncio.run(cell(connected(server))) == {"a": 1}
