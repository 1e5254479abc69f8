"""What a client does about every fault of a server, on a clock of its own."""

import random
import re
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from email.utils import formatdate
from typing import Any

import anyio
import httpx2
import pytest
from support.virtual_time import NOW, VirtualTime, post

from trueup.endpoints import client
from trueup.endpoints.client import FIRST_PAUSE, LONGEST_PAUSE, MOST_UNREADABLE, Endpoint, Refused
from trueup.endpoints.key import Key
from trueup.errors import AnnotatorError

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


def endpoint(script: Callable[[httpx2.Request], httpx2.Response], time: VirtualTime, **changes: Any) -> Endpoint:
    settings: dict[str, Any] = dict(key=Key(""), timeout=60.0, deadline=600.0, concurrency=4)
    return Endpoint(
        URL, **{**settings, **changes}, transport=httpx2.MockTransport(script), clock=time.clock,
        jitter=random.Random(1),
    )  # fmt: skip


def failure(script: Script, time: VirtualTime | None = None, **changes: Any) -> str:
    """What is said where no request can be answered."""
    with pytest.raises(AnnotatorError) as raised:
        post(endpoint(script, time or VirtualTime(), **changes))
    assert raised.value.exit_code == 6
    return str(raised.value)


PASSING = {
    **{str(status): json(status, {"error": {"message": "later"}}) for status in (408, 409, 425, 429)},
    **{str(status): json(status, {"error": "later"}) for status in (500, 502, 503, 504, 524, 529)},
    "reset": httpx2.ReadError("Connection reset by peer"), "refused": httpx2.ConnectError("Connection refused"),
    "name": httpx2.ConnectError("[Errno -2] Name or service not known"),
    "timeout": httpx2.ReadTimeout("timed out"), "broken": httpx2.RemoteProtocolError("peer closed connection"),
    "html": httpx2.Response(200, html="<html>Gateway</html>"),
    "truncated": httpx2.Response(200, content=b'{"choices": [{"te'), "empty": httpx2.Response(200, content=b""),
    "a list": json(200, [1]), "dressed": json(200, {"error": {"code": 502, "message": "upstream"}}),
    "deep": httpx2.Response(200, content=b"[" * 200_000),
}  # fmt: skip


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again(fault: str, told: list[str]) -> None:
    time = VirtualTime()
    script = Script(PASSING[fault], PASSING[fault], good())
    assert post(endpoint(script, time), "/completions", {"a": 1}) == GOOD
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
    assert 600 - LONGEST_PAUSE < sum(time.slept) <= 600
    said = failure(Script(httpx2.ConnectError("Connection refused")), deadline=20.0)
    assert re.search(r"no connection: Connection refused, after 6 attempts in .* seconds", said)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("given", ["77", "77.0", formatdate(NOW + 77, usegmt=True)])
def test_retry_after_is_kept_to(status: int, given: str) -> None:
    time = VirtualTime()
    script = Script(json(status, {}, **{"Retry-After": given}), good())
    assert post(endpoint(script, time)) == GOOD
    assert time.slept == [77]


@pytest.mark.parametrize("given", ["", "soon", "nan", "inf", "-5", formatdate(NOW - 50, usegmt=True)])
def test_retry_after_that_says_nothing_leaves_the_pause(given: str) -> None:
    time = VirtualTime()
    assert post(endpoint(Script(json(429, {}, **{"Retry-After": given}), good()), time)) == GOOD
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
    assert post(made) == GOOD
    assert len(script.asked) >= 2
    made = endpoint(lambda request: httpx2.Response(200, stream=Dripping()), VirtualTime(), timeout=0.02, deadline=5.0)
    with pytest.raises(AnnotatorError, match=f"^{URL}/x: no answer within 0.2 seconds, after ") as raised:
        post(made)
    assert str(raised.value).endswith("; look at the server, or give a longer timeout")


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "gzip"])
def test_an_answer_without_end_is_not_taken_in(monkeypatch: pytest.MonkeyPatch, encoded: bool) -> None:
    """Nor is one that is packed: what it unpacks to counts."""
    monkeypatch.setattr(client, "LONGEST_ANSWER", 2**20)
    taken = []

    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            pack = zlib.compressobj(wbits=31)
            for _ in range(100_000):
                taken.append(b" " * 2**16)
                yield pack.compress(taken[-1]) if encoded else taken[-1]

    headers = {"content-encoding": "gzip"} if encoded else {}
    made = endpoint(lambda request: httpx2.Response(200, headers=headers, stream=Endless()), VirtualTime())
    with pytest.raises(AnnotatorError) as raised:
        post(made)
    assert str(raised.value) == f"{URL}/x: 200: the answer is longer than 1 MiB; check base_url and the server"
    assert len(taken) < 1000


@pytest.mark.parametrize(
    ("answers", "seconds", "limits", "said"),
    [
        ((*[PASSING["html"]] * 3, json(500, {}), PASSING["html"], good()), 1, [9, 9, 9, 9, 9, 3.5], ""),
        ((json(500, {}),), 3, [9, 9, 9, 8, 2.5], "after 5 attempts in 20 seconds"),
        ((json(503, {}, **{"Retry-After": "16.9"}),), 3, [9], "of which 0 are left"),
        ((json(500, {}),), 30, [9], "after 1 attempt in 30 seconds"),
    ],
)
def test_requests_take_time(answers: list[Answer], seconds: int, limits: list[float], said: str) -> None:
    time, script, given = VirtualTime(), Script(*answers), []

    def answer(request: httpx2.Request) -> httpx2.Response:
        given.append(anyio.current_effective_deadline() - anyio.current_time())
        time.now += seconds
        return script(request)

    made = endpoint(answer, time, timeout=9.0, deadline=20.0)
    with pytest.raises(AnnotatorError, match=said) if said else nullcontext():
        assert post(made) == GOOD
    assert given == pytest.approx(limits, abs=0.1)


def test_a_batch_that_has_failed_neither_pauses_nor_begins_another_request() -> None:
    time, asked = VirtualTime(), []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.content)
        if b"slow" in request.content:
            await anyio.sleep(0.05)
        return json(500 if b"slow" in request.content else 401, {})

    with pytest.raises(AnnotatorError, match="401"):
        list(endpoint(answer, time).each("/x", [{"a": "slow"}, {"a": "bad"}, {"a": "more"}]))
    assert (len(asked), time.slept) == (2, [])


def test_what_is_never_json_is_not_the_api() -> None:
    script = Script(httpx2.Response(200, html="<html>\n<b>Welcome</b></html>"))
    said = failure(script)
    assert len(script.asked) == MOST_UNREADABLE
    assert said.startswith(f"{URL}/x: 200, not JSON: <html> <b>Welcome</b></html>, after 4 attempts")
    assert said.endswith("check base_url, which usually ends in /v1, and what stands between here and the server")


LASTING = {
    "401": (json(401, {"error": {"message": "Bad key"}}), "401: Bad key; no key was sent; put one"),
    "403": (json(403, {"detail": "no"}), "403: no; no key was sent"),
    "402": (json(402, {"error": "pay"}), "402: pay; the account's quota is used up"),
    "404": (json(404, {"detail": "Not Found"}), "404: Not Found; check base_url, which usually ends in /v1"),
    "405": (json(405, {"detail": "Method"}), "405: Method; check base_url and the server"),
    "501": (json(501, {}), "501: {}; check base_url and the server"),
    "429": (
        json(429, {"error": {"message": "You exceeded it", "type": "insufficient_quota"}}),
        "429: You exceeded it / insufficient_quota; the account's quota is used up",
    ),
    "400": (json(400, {"error": {"message": "API key not valid."}}), "400: API key not valid.; no key was sent"),
    "302": (
        httpx2.Response(302, headers={"Location": "https://other.example/login?next=secret"}),
        "302, a redirect to https://other.example/login; give the address itself as base_url",
    ),
    "certificate": (
        httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"),
        "the server's certificate is not trusted: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed; check base_url, or "
        "name a file of trusted certificates in SSL_CERT_FILE",
    ),
}


@pytest.mark.parametrize("fault", LASTING)
def test_what_lasts_stops_at_the_first_answer(fault: str) -> None:
    """And a redirect is not followed."""
    answer, said = LASTING[fault]
    script = Script(answer)
    assert failure(script).startswith(f"{URL}/x: {said}")
    assert [request.url.host for request in script.asked] == ["models.example"]


@pytest.mark.parametrize(
    "kind", [httpx2.ReadError, httpx2.ConnectError, httpx2.LocalProtocolError, httpx2.InvalidURL, OSError]
)
def test_a_secret_in_the_text_of_a_transport_error_is_hidden(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    for secret, key in (("canary-5b1f", Key("canary-5b1f")), ("http://user:canary@proxy:80", Key(""))):
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
        post(made, body={"a": "long"})
    assert refused.reason == raised.value.reason == f"{status}: maximum context length is 512"


@pytest.mark.parametrize("body", [b"", b"\x00\x07\n" * 300, b"x" * 5_000_000, "\u202eevil\u2028".encode() * 50])
def test_a_message_is_one_short_line_whatever_came_back(body: bytes) -> None:
    message = failure(Script(httpx2.Response(404, content=body)))
    assert message.isprintable() and len(message) < 250
    assert message.startswith(f"{URL}/x: 404")


def test_a_large_answer_is_an_answer() -> None:
    large = {"choices": [{"text": "x" * 5_000_000}], "more": {"unknown": [None]}}
    assert post(endpoint(Script(json(200, large)), VirtualTime())) == large


def test_a_probe_takes_anything_for_an_answer() -> None:
    html, version = httpx2.Response(200, html="<p>"), json(200, {"version": "1"})
    script = Script(json(404, {}), json(500, {}), html, version)
    made = endpoint(script, VirtualTime())
    assert [made.probe("/version") for _ in range(4)] == [None, None, None, {"version": "1"}]
    assert {(one.method, one.content, str(one.url)) for one in script.asked} == {("GET", b"", f"{URL}/version")}
    known = [endpoint(Script(json(status, {})), VirtualTime()).has("/x") for status in (404, 405, 200)]
    assert known == [False, True, True]


def test_an_order_needs_no_answer_and_is_not_given_twice_to_a_server_that_broke() -> None:
    script = Script(json(503, {}), httpx2.Response(200, content=b"Success: loaded"))
    endpoint(script, VirtualTime()).order("/load", {})
    assert len(script.asked) == 2
    script = Script(json(500, {"error": {"message": "shape mismatch"}}))
    with pytest.raises(AnnotatorError, match="500: shape mismatch; look at the server's log"):
        endpoint(script, VirtualTime()).order("/load", {})
    assert len(script.asked) == 1


def test_a_slash_at_the_end_changes_nothing() -> None:
    assert Endpoint(URL + "/", key=Key(""), timeout=1, deadline=1, concurrency=1).base_url == URL
