"""Several addresses of one endpoint: which is asked, and what becomes of one that fails."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import pytest
from support.virtual_time import VirtualTime

from trueup.endpoints.client import Endpoint
from trueup.endpoints.key import Key
from trueup.errors import AnnotatorError

A, B, C = (f"http://{host}.example/v1" for host in "abc")
Fault = Callable[[], httpx2.Response]


def refused() -> httpx2.Response:
    raise httpx2.ConnectError("Connection refused")


def broken() -> httpx2.Response:
    raise httpx2.RemoteProtocolError("peer closed connection")


FAULTS: dict[str, Fault] = {
    "refused": refused, "broken": broken, "500": lambda: httpx2.Response(500, text="out of memory"),
    "429": lambda: httpx2.Response(429, headers={"Retry-After": "50"}),
    "html": lambda: httpx2.Response(200, html="<html></html>"),
    "404": lambda: httpx2.Response(404, json={"error": "no such model"}),
}  # fmt: skip


class Servers:
    """Answer with the number of the request, but for those that fail from some request on."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.asked: list[tuple[str, int]] = []
        self.answered: Counter[int] = Counter()
        self.fails: dict[str, tuple[int, Fault]] = {}  # host -> the requests that it answers before it fails

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        host, number = str(request.url.host)[0], json.loads(request.content)["number"]
        before = sum(one == host for one, _ in self.asked)
        self.asked.append((host, number))
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        sound, fault = self.fails.get(host, (before + 1, refused))
        if before >= sound:
            return fault()
        self.answered[number] += 1
        return httpx2.Response(200, json={"number": number})

    def counts(self) -> Counter[str]:
        return Counter(host for host, _ in self.asked)

    def ask(self, addresses: tuple[str, ...] = (A, B), count: int = 40, **changes: Any) -> list[int]:
        endpoint = Endpoint(
            addresses, **{**dict(key=Key(""), timeout=60.0, deadline=600.0, concurrency=4), **changes},
            transport=httpx2.MockTransport(self), clock=self.time.clock,
        )  # fmt: skip
        bodies = [{"number": number} for number in range(count)]
        return [answer["number"] for _, answer in endpoint.each("/x", bodies) if isinstance(answer, dict)]


@pytest.fixture
def servers() -> Servers:
    return Servers(VirtualTime())


def test_the_least_busy_is_asked(servers: Servers) -> None:
    assert sorted(servers.ask((A, B))) == list(range(40))
    assert servers.counts() == {"a": 20, "b": 20}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("sound", [0, 7])
def test_one_that_fails_is_left_out_and_nothing_is_lost(
    servers: Servers, fault: Fault, sound: int, told: list[str]
) -> None:
    servers.fails["b"] = (sound, fault)
    assert sorted(servers.ask()) == list(range(40))
    assert set(servers.answered.values()) == {1}  # none was answered twice
    assert servers.counts()["b"] <= sound + 2 and not servers.time.slept
    (line,) = told
    assert line.startswith(f"{B}: ") and "is left out" in line and line.endswith("the others are asked")


def test_one_that_comes_back_is_asked_again(servers: Servers) -> None:
    servers.fails["b"] = (0, refused)
    endpoint = Endpoint(
        (A, B), key=Key(""), timeout=60, deadline=600, concurrency=4,
        transport=httpx2.MockTransport(servers), clock=servers.time.clock,
    )  # fmt: skip
    list(endpoint.each("/x", [{"number": number} for number in range(8)]))
    servers.fails.clear()
    list(endpoint.each("/x", [{"number": number} for number in range(8)]))
    before = servers.counts()["b"]
    servers.time.now += 3
    list(endpoint.each("/x", [{"number": number} for number in range(8)]))
    assert servers.counts()["b"] > before


def test_one_that_may_not_come_back_is_left_out_for_good(servers: Servers, told: list[str]) -> None:
    """It would have started again, without the weights that it was given."""
    servers.fails["b"] = (0, refused)
    servers.ask(returns=False)
    assert "it is left out from here on" in told[0]


def test_where_all_fail_the_run_ends_after_its_deadline(servers: Servers) -> None:
    servers.fails = {"a": (3, refused), "b": (2, refused)}
    with pytest.raises(AnnotatorError, match=r"^http://[ab]\.example/v1/x: no connection: Connection refused"):
        servers.ask()
    assert servers.time.now <= 600 and len(servers.answered) == 5


def test_where_all_refuse_for_good_the_last_says_why(servers: Servers) -> None:
    servers.fails = {host: (0, FAULTS["404"]) for host in "abc"}
    with pytest.raises(AnnotatorError, match="404: no such model; check base_url"):
        servers.ask((A, B, C))
    assert not servers.time.slept
