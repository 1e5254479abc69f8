"""What a client does about every fault of a server, on a clock of its own; and several requests at once to a real one.

How many, in which order, and what happens when one shows that none can be answered, or the user stops.
"""

import random
import re
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import anyio
import httpx2
import pytest
from support.faulty_server import Asked, FaultyServer, Reply
from support.virtual_time import NOW, VirtualTime

from trueup import stop
from trueup.endpoints.client import FIRST_PAUSE, LONGEST_PAUSE, MOST_UNREADABLE, Endpoint, Refused
from trueup.endpoints.key import Key
from trueup.errors import AnnotatorError, InputError, Stopped

URL = "http://models.example:8000/v1"
GOOD = {"choices": [{"text": "yes"}]}
Answer = httpx2.Response | Exception


class Script:
    """Gives answers in turn, the last of them from then on."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)


def json(status: int, body: Any, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, json=body, headers=headers)


def good() -> httpx2.Response:
    return json(200, GOOD)


def endpoint(
    script: Callable[[httpx2.Request], httpx2.Response], time: VirtualTime, **changes: Any
) -> Endpoint:
    settings: dict[str, Any] = dict(key=None, timeout=60.0, deadline=600.0, concurrency=4)
    return Endpoint(
        URL, **{**settings, **changes}, transport=httpx2.MockTransport(script), clock=time.clock,
        jitter=random.Random(1),
    )  # fmt: skip


def failure(script: Script, time: VirtualTime | None = None, **changes: Any) -> str:
    """What is said where no request can be answered."""
    with pytest.raises(AnnotatorError) as raised:
        endpoint(script, time or VirtualTime(), **changes).post("/x", {})
    assert raised.value.exit_code == 6
    return str(raised.value)


PASSING = {
    **{str(status): json(status, {"error": {"message": "later"}}) for status in (408, 409, 425, 429)},
    **{str(status): json(status, {"error": "later"}) for status in (500, 502, 503, 504, 524, 529)},
    "reset": httpx2.ReadError("Connection reset by peer"),
    "refused": httpx2.ConnectError("Connection refused"),
    "name": httpx2.ConnectError("[Errno -2] Name or service not known"),
    "timeout": httpx2.ReadTimeout("timed out"),
    "broken": httpx2.RemoteProtocolError("peer closed connection"),
    "html": httpx2.Response(200, html="<html>Gateway</html>"),
    "truncated": httpx2.Response(200, content=b'{"choices": [{"te'),
    "empty": httpx2.Response(200, content=b""),
    "a list": json(200, [1]),
    "dressed": json(200, {"error": {"code": 502, "message": "upstream"}}),
    "deep": httpx2.Response(200, content=b"[" * 200_000),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again(fault: str, told: list[str]) -> None:
    time = VirtualTime()
    script = Script(PASSING[fault], PASSING[fault], good())
    assert endpoint(script, time).post("/completions", {"a": 1}) == GOOD
    assert len(script.asked) == 3
    assert [request.content for request in script.asked] == [b'{"a": 1}'] * 3
    assert len(time.slept) == 2
    assert len(told) == 1 and told[0].startswith(f"{URL}/completions: ")  # once, not for every attempt
    assert told[0].endswith("trying again for up to 600 seconds")


def test_pauses_double_up_to_a_bound_and_are_drawn() -> None:
    time = VirtualTime()
    failure(Script(json(500, {})), time)
    full = [min(LONGEST_PAUSE, FIRST_PAUSE * 2**number) for number in range(len(time.slept))]
    shares = [pause / whole for pause, whole in zip(time.slept, full, strict=True)]
    assert all(0.5 <= share <= 1 for share in shares)
    assert len(set(shares)) == len(shares)
    assert sum(time.slept) <= 600
    assert sum(time.slept) > 600 - LONGEST_PAUSE


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("given", ["77", "77.0", formatdate(NOW + 77, usegmt=True)])
def test_retry_after_is_kept_to(status: int, given: str) -> None:
    time = VirtualTime()
    script = Script(json(status, {}, **{"Retry-After": given}), good())
    assert endpoint(script, time).post("/x", {}) == GOOD
    assert time.slept == [77]


@pytest.mark.parametrize("given", ["", "soon", "nan", "inf", "-5", formatdate(NOW - 50, usegmt=True)])
def test_retry_after_that_says_nothing_leaves_the_pause(given: str) -> None:
    time = VirtualTime()
    assert endpoint(Script(json(429, {}, **{"Retry-After": given}), good()), time).post("/x", {}) == GOOD
    assert FIRST_PAUSE / 2 <= time.slept[0] <= FIRST_PAUSE


def test_retry_after_beyond_the_deadline_stops_at_once() -> None:
    time = VirtualTime()
    script = Script(json(500, {}), json(429, {"error": {"message": "slow down"}}, **{"Retry-After": "700"}))
    said = failure(script, time)
    assert len(script.asked) == 2
    left = 600 - time.now
    assert said == (
        f"{URL}/x: 429: slow down, and it asks to wait 700 seconds, of which {left:.0f} are left; lower the "
        "concurrency, or ask for a higher limit"
    )


def test_a_server_that_is_down_past_the_deadline() -> None:
    time = VirtualTime()
    said = failure(Script(httpx2.ConnectError("Connection refused")), time, deadline=20.0)
    assert re.search(r"no connection: Connection refused, after 6 attempts in .* seconds", said)
    assert time.now <= 20


def test_one_answer_is_waited_for_no_longer_than_the_timeout() -> None:
    """Also where bytes keep coming: the limit is on the whole answer."""

    class Dripping(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            for _ in range(1000):
                await anyio.sleep(0.01)
                yield b" "

    script = Script(good())
    first = iter([httpx2.Response(200, stream=Dripping())])
    made = endpoint(lambda request: next(first, script(request)), VirtualTime(), timeout=0.3)
    assert made.post("/x", {}) == GOOD
    assert len(script.asked) >= 2


def test_an_answer_that_never_comes() -> None:
    class Silent(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            await anyio.sleep(300)
            yield b"{}"

    made = endpoint(
        lambda request: httpx2.Response(200, stream=Silent()), VirtualTime(), timeout=0.02, deadline=5.0
    )
    with pytest.raises(AnnotatorError) as raised:
        made.post("/x", {})
    assert str(raised.value).startswith(f"{URL}/x: no answer within 0.2 seconds, after ")
    assert str(raised.value).endswith("; look at the server, or give a longer timeout")


def test_what_is_never_json_is_not_the_api() -> None:
    script = Script(httpx2.Response(200, html="<html>\n<b>Welcome</b></html>"))
    said = failure(script)
    assert len(script.asked) == MOST_UNREADABLE
    assert said.startswith(f"{URL}/x: 200, not JSON: <html> <b>Welcome</b></html>, after 4 attempts")
    assert said.endswith(
        "check base_url, which usually ends in /v1, and what stands between here and the server"
    )


LASTING = {
    401: (
        json(401, {"error": {"message": "Incorrect key"}}),
        "401: Incorrect key; no key was sent; give one",
    ),
    403: (json(403, {"detail": "no"}), "403: no; no key was sent"),
    402: (json(402, {"error": "pay"}), "402: pay; the account's quota is used up"),
    404: (json(404, {"detail": "Not Found"}), "404: Not Found; check base_url, which usually ends in /v1"),
    405: (json(405, {"detail": "Method"}), "405: Method; check base_url and the server"),
    501: (json(501, {}), "501: {}; check base_url and the server"),
    429: (
        json(429, {"error": {"message": "You exceeded it", "type": "insufficient_quota"}}),
        "429: You exceeded it / insufficient_quota; the account's quota is used up",
    ),
    400: (
        json(400, {"error": {"message": "API key not valid."}}),
        "400: API key not valid.; no key was sent",
    ),
    302: (
        httpx2.Response(302, headers={"Location": "https://other.example/login?next=secret"}),
        "302, a redirect to https://other.example/login; give the address itself as base_url",
    ),
}


@pytest.mark.parametrize("status", LASTING)
def test_what_lasts_stops_at_the_first_answer(status: int) -> None:
    answer, said = LASTING[status]
    script = Script(answer)
    assert failure(script).startswith(f"{URL}/x: {said}")
    assert len(script.asked) == 1


def test_nothing_is_sent_after_a_redirect() -> None:
    script = Script(httpx2.Response(307, headers={"Location": "http://evil.example/v1/x"}))
    failure(script, key=Key("canary-5b1f"))
    assert [request.url.host for request in script.asked] == ["models.example"]


def test_an_untrusted_certificate_is_not_tried_again() -> None:
    script = Script(httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))
    assert re.search("certificate is not trusted.*SSL_CERT_FILE", failure(script))
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "kind", [httpx2.ReadError, httpx2.ConnectError, httpx2.LocalProtocolError, httpx2.InvalidURL, OSError]
)
def test_a_secret_in_the_text_of_a_transport_error_is_hidden(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    for secret, key in (("canary-5b1f", Key("canary-5b1f")), ("http://user:canary@proxy:80", None)):
        message = failure(Script(kind(f"illegal value {secret!r}")), key=key, deadline=5.0)
        said = f"{message}\n{caplog.text}"
        assert "canary" not in said
        assert "illegal value" in said and "***" in said


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_cannot_be_answered_leaves_the_others(status: int) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        long = b"long" in request.content
        return json(status, {"error": {"message": "maximum context length is 512"}}) if long else good()

    made = endpoint(answer, VirtualTime())
    answers = dict(made.each("/x", [{"a": "short"}, {"a": "long"}, {"a": "short"}]))
    refused = answers.pop(1)
    assert answers == {0: GOOD, 2: GOOD}
    assert isinstance(refused, Refused)
    with pytest.raises(Refused) as raised:
        made.post("/x", {"a": "long"})
    assert refused.reason == raised.value.reason == f"{status}: maximum context length is 512"


@pytest.mark.parametrize(
    "body", [b"", b"\x00\x07\n" * 300, b"x" * 5_000_000, "\u202eevil\u2028".encode() * 50]
)
def test_a_message_is_one_short_line_whatever_came_back(body: bytes) -> None:
    message = failure(Script(httpx2.Response(404, content=body)))
    assert message.isprintable() and len(message) < 250
    assert message.startswith(f"{URL}/x: 404")


def test_a_large_answer_is_an_answer() -> None:
    large = {"choices": [{"text": "x" * 5_000_000}], "more": {"unknown": [None]}}
    assert endpoint(Script(json(200, large)), VirtualTime()).post("/x", {}) == large


def test_a_probe_takes_anything_for_an_answer() -> None:
    script = Script(
        json(404, {}), json(500, {}), httpx2.Response(200, html="<p>"), json(200, {"version": "1"})
    )
    made = endpoint(script, VirtualTime())
    assert [made.probe("/version") for _ in range(4)] == [None, None, None, {"version": "1"}]
    assert {(one.method, one.content, str(one.url)) for one in script.asked} == {
        ("GET", b"", f"{URL}/version")
    }
    assert [endpoint(Script(json(status, {})), VirtualTime()).has("/x") for status in (404, 405, 200)] == [
        False,
        True,
        True,
    ]


def test_an_order_needs_no_answer_and_is_not_given_twice_to_a_server_that_broke() -> None:
    script = Script(json(503, {}), httpx2.Response(200, content=b"Success: loaded"))
    endpoint(script, VirtualTime()).order("/load", {})
    assert len(script.asked) == 2
    script = Script(json(500, {"error": {"message": "shape mismatch"}}))
    with pytest.raises(AnnotatorError, match="500: shape mismatch; look at the server's log"):
        endpoint(script, VirtualTime()).order("/load", {})
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "url", ["models.example/v1", "ftp://models.example", "http://", "http://a:99999/v1", "http://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is no address; give one as in http://localhost:8000/v1"):
        Endpoint(url, key=None, timeout=1, deadline=1, concurrency=1)


def test_a_slash_at_the_end_changes_nothing() -> None:
    assert Endpoint(URL + "/", key=None, timeout=1, deadline=1, concurrency=1).base_url == URL


def connected(server: FaultyServer, **changes: Any) -> Endpoint:
    settings: dict[str, Any] = dict(key=None, timeout=20.0, deadline=20.0, concurrency=4)
    return Endpoint(server.url, **{**settings, **changes})


def number(asked: Asked) -> int:
    return int(asked.body["number"])


BODIES = [{"number": one} for one in range(12)]
WAIT = 60.0
"""Seconds until a test that waits for something fails; no busy machine takes as long."""


@pytest.mark.parametrize("concurrency", [1, 3])
def test_as_many_at_a_time_as_allowed(concurrency: int) -> None:
    """Each answer waits for as many requests as may be under way."""
    together = threading.Barrier(concurrency, timeout=WAIT)

    def answer(asked: Asked) -> Reply:
        together.wait()
        return Reply(body={"said": number(asked)})

    with FaultyServer(answer) as server:
        answers = dict(connected(server, concurrency=concurrency).each("/x", BODIES))
        assert answers == {one: {"said": one} for one in range(12)}
        assert server.most_at_once == concurrency
        assert {asked.path for asked in server.asked} == {"/v1/x"}


def test_answers_come_out_as_they_come_in() -> None:
    others = threading.Event()
    order: list[int] = []

    def answer(asked: Asked) -> Reply:
        return Reply(body={"waited": number(asked) > 0 or others.wait(WAIT)})

    with FaultyServer(answer) as server:
        for one, reply in connected(server).each("/x", BODIES):
            assert reply == {"waited": True}
            order.append(one)
            if len(order) == 11:
                others.set()
        assert order[-1] == 0
        assert sorted(order) == list(range(12))


def test_no_request_is_no_answer() -> None:
    with FaultyServer() as server:
        assert list(connected(server).each("/x", [])) == []
        assert server.asked == []


def test_faults_over_a_real_connection() -> None:
    faults = [Reply(close=True), Reply(body={"a": "b" * 100}, cut=20), Reply(500), Reply(body={"a": 1})]
    with FaultyServer(faults) as server:
        assert connected(server).post("/x", {}) == {"a": 1}
        assert len(server.asked) == 4


def test_a_slow_answer_is_given_up() -> None:
    with FaultyServer([Reply(delay=30), Reply(body={"a": 1})]) as server:
        began = time.monotonic()
        assert connected(server, timeout=0.2).post("/x", {}) == {"a": 1}
        assert time.monotonic() - began < 30


def test_what_was_answered_is_handed_out_before_the_error() -> None:
    """And what is under way is waited for: it is paid for."""

    under_way, refused = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Reply:
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


@pytest.mark.parametrize(
    "reply", [Reply(delay=300), Reply(429, headers={"Retry-After": "300"})], ids=["wait", "pause"]
)
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


def test_answers_that_nobody_takes_are_not_waited_for() -> None:
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
            found[one] = shared.post("/x", {"number": one})["said"]

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
    made = connected(first, deadline=1.0)
    with pytest.raises(
        AnnotatorError, match=r"no connection.*check base_url, and that the server is running"
    ):
        made.post("/x", {})
    assert len(told) == 1


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer([Reply(body={"a": 1})]) as server, FaultyServer([Reply(403)]) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert connected(server).post("/x", {}) == {"a": 1}
        assert proxy.asked == []


def test_inside_another_event_loop(capsys: Callable[[], object]) -> None:
    """As in a notebook."""
    import asyncio

    async def cell(made: Endpoint) -> Any:
        return made.post("/x", {})

    with FaultyServer([Reply(body={"a": 1})]) as server:
        assert asyncio.run(cell(connected(server))) == {"a": 1}
