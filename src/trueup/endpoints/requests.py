"""Requests under way: several at a time, each sent again for as long as that may help."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import tenacity

from trueup.endpoints.key import Key, redact
from trueup.endpoints.reply import Declined, Failed, Fatal, Outcome, Read, Replied, one_line

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds, before a random factor between 1/2 and 1."""
LEAST_TIME = 0.2
"""Seconds below which what is left of a deadline is not worth another attempt."""
MOST_UNREADABLE = 4
"""Answers in a row that are not JSON, after which the address is taken to be wrong."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Put = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, and waiting for it to pass."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds, from wherever."""
    today: Callable[[], float] = time.time
    """Seconds since 1970."""
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep


@dataclass(frozen=True, slots=True)
class Warned:
    """Something to tell the user once."""

    kind: str
    """The same for all that need not be told again."""
    text: str


class Requests:
    """Sends requests to one server; see `trueup.endpoints.client.Endpoint`."""

    def __init__(
        self,
        base_url: str,
        *,
        key: Key | None,
        timeout: float,
        deadline: float,
        concurrency: int,
        transport: Any,
        clock: Clock,
        jitter: random.Random,
    ) -> None:
        self._base_url, self._key = base_url, key
        self._timeout, self._deadline, self._concurrency = timeout, deadline, concurrency
        self._transport, self._clock, self._jitter = transport, clock, jitter
        self._redact = key.redact if key is not None else redact
        local = urlsplit(base_url).hostname in LOOPBACK
        self._through_proxy = not local
        self._verify: ssl.SSLContext | bool = base_url.startswith("https:") and httpx2.create_ssl_context()

    async def run(
        self, method: str, path: str, contents: Sequence[bytes | None], read: Read, put: Put
    ) -> str | None:
        """Send every request, understand its answer by `read`, and hand `put` what comes of it.

        That is `(number, answer)`, `(number, reason)` of a request that was refused, or `Warned`.

        Returns:
            None where all have an answer; else why no more are sent, in one line. What was under way then has been
            waited for, as answers cost money.
        """
        url = self._base_url + path
        limits = httpx2.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
        headers = {
            "Content-Type": "application/json",
            **(self._key.header() if self._key is not None else {}),
        }
        client = httpx2.AsyncClient(
            headers=headers,
            timeout=None,
            limits=limits,
            follow_redirects=False,
            transport=self._transport,
            trust_env=self._through_proxy,
            verify=self._verify,
        )
        async with client:
            batch = _Batch(partial(self._settled, client, method, url, read), put)
            await batch.run(contents, self._concurrency)
        return f"{url}: {batch.failure}" if batch.failure is not None else None

    async def _settled(
        self,
        client: httpx2.AsyncClient,
        method: str,
        url: str,
        read: Read,
        content: bytes | None,
        batch: _Batch,
    ) -> Outcome:
        """What comes of one request in the end."""
        began = self._clock.monotonic()
        unreadable = 0
        last: Failed | None = None

        def left() -> float:
            return self._deadline - (self._clock.monotonic() - began)

        async def attempt() -> Outcome:
            nonlocal unreadable, last
            if batch.failure is not None:  # while this one paused
                return Fatal(batch.failure, "")
            if last is not None and left() < LEAST_TIME:  # it paused for longer than it meant to
                return last
            seconds = max(LEAST_TIME, min(self._timeout, left()))
            outcome = await self._attempt(client, method, url, read, content, seconds)
            unreadable = unreadable + 1 if isinstance(outcome, Failed) and outcome.unreadable else 0
            last = outcome if isinstance(outcome, Failed) else None
            return outcome

        def pause(state: tenacity.RetryCallState) -> float:
            drawn = exponential(state) * (0.5 + 0.5 * self._jitter.random())
            return max(drawn, _failed(state).wait or 0.0)

        def over(state: tenacity.RetryCallState) -> bool:
            return batch.failure is not None or unreadable >= MOST_UNREADABLE or state.upcoming_sleep > left()

        def warn(state: tenacity.RetryCallState) -> None:
            what = _failed(state).what
            text = f"{url}: {what}; trying again for up to {self._deadline:g} seconds"
            batch.put(Warned(what.split(":")[0], text))

        def give_up(state: tenacity.RetryCallState) -> Outcome:
            failed, spent = _failed(state), self._deadline - left()
            tried = f"after {state.attempt_number} attempts in {spent:.0f} seconds"
            if failed.wait is not None and failed.wait > left():
                tried = (
                    f"and it asks to wait {failed.wait:.0f} seconds, of which {max(0.0, left()):.0f} are left"
                )
            return Fatal(f"{failed.what}, {tried}", failed.hint)

        exponential = tenacity.wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda outcome: isinstance(outcome, Failed)),
            wait=pause,
            stop=over,
            before_sleep=warn,
            sleep=batch.sleeping(self._clock.sleep),
            retry_error_callback=give_up,
        )
        outcome: Outcome = await retrying(attempt)
        return outcome

    async def _attempt(
        self,
        client: httpx2.AsyncClient,
        method: str,
        url: str,
        read: Read,
        content: bytes | None,
        seconds: float,
    ) -> Outcome:
        """Send a request once, and wait no longer than `seconds` for the whole of its answer."""
        try:
            with anyio.fail_after(seconds):
                response = await client.request(method, url, content=content)
        except TimeoutError:
            return Failed(
                f"no answer within {seconds:g} seconds", "look at the server, or give a longer timeout"
            )
        except (
            httpx2.TransportError,
            httpx2.DecodingError,
            httpx2.InvalidURL,
            OSError,
            ssl.SSLError,
        ) as error:
            return self._broken(error)
        return read(
            response.status_code,
            response.headers,
            response.content,
            now=self._clock.today(),
            admission=self._admission(),
            redact=self._redact,
        )

    def _broken(self, error: Exception) -> Outcome:
        """A connection that could not be made or used."""
        said = one_line(self._redact(str(error))) or type(error).__name__
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL | httpx2.LocalProtocolError):
            return Fatal(f"the request cannot be sent: {said}", "check base_url")
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Fatal(
                f"the server's certificate is not trusted: {said}",
                "check base_url, or name a file of trusted certificates in SSL_CERT_FILE",
            )
        if isinstance(error, httpx2.ConnectError):
            return Failed(f"no connection: {said}", "check base_url, and that the server is running")
        return Failed(f"the connection broke: {said}", "look at the server")

    def _admission(self) -> str:
        """What to do where the endpoint does not let us in."""
        if self._key is None:
            return "no key was sent; give one, or look at the server"
        if not self._key:
            return f"no key was sent; put one into {self._key.origin}"
        return f"check the key in {self._key.origin}"


def _failed(state: tenacity.RetryCallState) -> Failed:
    assert state.outcome is not None
    failed = state.outcome.result()
    assert isinstance(failed, Failed)
    return failed


class _Batch:
    """Requests that end together: the first that shows that none can be answered ends the pauses of the others."""

    def __init__(self, settle: Callable[[bytes | None, _Batch], Awaitable[Outcome]], put: Put) -> None:
        self.put = put
        self.failure: str | None = None
        self._settle = settle
        self._pauses: set[anyio.CancelScope] = set()

    async def run(self, contents: Sequence[bytes | None], concurrency: int) -> None:
        waiting = iter(enumerate(contents))

        async def work() -> None:
            for number, content in waiting:
                outcome = await self._settle(content, self)
                if isinstance(outcome, Replied):
                    self.put((number, outcome.body))
                elif isinstance(outcome, Declined):
                    self.put((number, outcome.reason))
                else:
                    assert isinstance(outcome, Fatal)
                    self._fail(f"{outcome.what}; {outcome.hint}")
                if self.failure is not None:
                    return

        async with anyio.create_task_group() as group:
            for _ in range(min(concurrency, len(contents))):
                group.start_soon(work)

    def sleeping(self, sleep: Callable[[float], Awaitable[None]]) -> Callable[[float], Awaitable[None]]:
        """Sleep that ends when the batch has failed."""

        async def slept(seconds: float) -> None:
            with anyio.CancelScope() as scope:
                self._pauses.add(scope)
                try:
                    await sleep(seconds)
                finally:
                    self._pauses.discard(scope)

        return slept

    def _fail(self, why: str) -> None:
        if self.failure is None:
            self.failure = why
        for scope in self._pauses:
            scope.cancel()
