"""A client for OpenAI-compatible endpoints that outlasts what passes and stops at what does not.
A request that fails for a reason that may pass is sent again after a pause that doubles each time, is drawn at random
so that many clients do not come back together, and is never shorter than what `Retry-After` asks for. Brooker, 2015,
Exponential backoff and jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/."""

import json
import queue
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal

from trueup import errors, stop, words
from trueup.endpoints import addresses
from trueup.endpoints.key import Key

Refused = addresses.Refused
STOP_SECONDS = 0.1  # how often it is looked whether the user asked to stop
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds, before a random factor between 1/2 and 1
LEAST_TIME = 0.2  # seconds below which what is left of a deadline is not worth another attempt
MOST_UNREADABLE = 4  # answers in a row that are not JSON, after which the address is taken to be wrong
LONGEST_ANSWER = 2**26  # bytes; an answer with everything that can be wanted of it has a few thousand
PART = 2**16

Body = Mapping[str, Any]
Answer = dict[str, Any]
Read = Callable[[httpx2.Response, Key, float], Answer]
Numbered = tuple[int, Answer | addresses.Refused]
Answers = Generator[Numbered, None, None]


@dataclass(frozen=True, slots=True)
class Clock:
    monotonic: Callable[[], float] = time.monotonic
    today: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep


class Endpoint:
    """Asks one server, or several that are alike; thread-safe.
    Of several the one with the fewest requests under way is asked. What one cannot answer goes to the others at once.
    Every message is one line, without secrets, and names the address, what came back and what to do. While answers
    are waited for, `trueup.stop` is looked at about ten times a second. `timeout` is for one answer, `deadline` for
    one that is sent again, in seconds; `transport` is in place of the network."""

    def __init__(
        self, base_url: str | Sequence[str], *, key: Key, timeout: float, deadline: float, concurrency: int,
        transport: Any = None, clock: Clock | None = None, jitter: random.Random | None = None,
        returns: bool = True,
    ) -> None:  # fmt: skip
        given = (base_url,) if isinstance(base_url, str) else base_url
        self.base_urls = tuple(dict.fromkeys(one.rstrip("/") for one in given))
        self.key = key
        self.timeout, self.deadline, self.concurrency = timeout, deadline, concurrency
        self.clock, self.jitter = clock or Clock(), jitter or random.Random()
        self.addresses = addresses.Addresses(self.base_urls, self.clock.monotonic, returns=returns)
        self._transport = transport
        secure = any(one.startswith("https:") for one in self.base_urls)
        self._verify: ssl.SSLContext | bool = secure and httpx2.create_ssl_context()
        self._told: set[str] = set()

    @property
    def base_url(self) -> str:
        return self.base_urls[0]

    def __repr__(self) -> str:
        return f"Endpoint({', '.join(self.base_urls)})"

    def order(self, path: str, body: Body) -> None:
        self._one("POST", path, body, addresses.read_status)

    def probe(self, path: str) -> Answer | None:
        """The JSON at a path; None where there is none."""
        try:
            return self._one("GET", path, None, addresses.read_probe)
        except addresses.Refused:
            return None

    def has(self, path: str) -> bool:
        """Whether the server knows a path, for whatever method."""
        try:
            self._one("GET", path, None, addresses.read_probe)
        except addresses.Refused as error:
            return error.reason != "404"
        return True

    def each(self, path: str, bodies: Sequence[Body]) -> Answers:
        """The answer to each request with the number of its body, as answers come in; all of them before an error.
        AnnotatorError: the server is not reached in time, does not let us in, or would always answer so."""
        return self._exchange("POST", path, bodies, addresses.read_json)

    def _one(self, method: str, path: str, body: Body | None, read: Read) -> Answer:
        ((_, answer),) = self._exchange(method, path, [body], read)
        if isinstance(answer, addresses.Refused):
            raise answer
        return answer

    def _exchange(self, method: str, path: str, bodies: Sequence[Body | None], read: Read) -> Answers:
        """Answers from an event loop in a thread of its own, so that waiting can be given up at any moment."""
        contents = [None if body is None else json.dumps(body).encode("ascii") for body in bodies]
        if not contents:
            return
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        batch = _Batch(self, method, path, read, answers.put)
        stopped: errors.Stopped | None = None
        with start_blocking_portal() as portal:
            task = portal.start_task_soon(batch.run, contents)
            task.add_done_callback(lambda _: answers.put(None))
            try:
                while True:
                    try:
                        stop.check()
                    except errors.Stopped as error:
                        stopped = error
                        task.cancel()
                    try:
                        answer = answers.get(timeout=STOP_SECONDS)
                    except queue.Empty:
                        continue
                    if answer is None:
                        break
                    yield answer
            finally:
                task.cancel()
        if stopped is not None:
            raise stopped
        task.result()

    def client(self, base_url: str) -> httpx2.AsyncClient:
        """The connections of one batch of requests to one address. What is on this machine is asked without a proxy."""
        most = self.concurrency
        return httpx2.AsyncClient(
            headers={"Content-Type": "application/json", **self.key.header()}, timeout=None,
            limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most), follow_redirects=False,
            trust_env=not addresses.on_this_machine(base_url), transport=self._transport, verify=self._verify,
        )  # fmt: skip

    def tell(self, url: str, error: addresses.Transient) -> None:
        """Log why a request is sent again, once for each kind of reason."""
        kind = error.what.split(":")[0]
        if kind not in self._told:
            self._told.add(kind)
            words.logger.warning(f"{url}: {error.what}; trying again for up to {self.deadline:g} seconds")


@dataclass(slots=True)
class _Batch:
    """Requests that end together: the first that shows that none can be answered ends the pauses of the others."""

    endpoint: Endpoint
    method: str
    path: str
    read: Read
    put: Callable[[Numbered], None]
    failure: errors.AnnotatorError | None = None
    clients: dict[str, httpx2.AsyncClient] = field(default_factory=dict)
    pauses: set[anyio.CancelScope] = field(default_factory=set)

    async def run(self, contents: Sequence[bytes | None]) -> None:
        """Send every request, several at a time; before an error what is under way is waited for: it costs money."""
        waiting = iter(enumerate(contents))

        async def work() -> None:
            for number, content in waiting:
                try:
                    self.put((number, await self.answer(content)))
                except addresses.Refused as error:
                    self.put((number, error))
                except errors.AnnotatorError as error:
                    self.failure = self.failure or error
                    for pause in self.pauses:
                        pause.cancel()
                if self.failure is not None:
                    return

        async with AsyncExitStack() as stack:
            for one in self.endpoint.base_urls:
                self.clients[one] = await stack.enter_async_context(self.endpoint.client(one))
            async with anyio.create_task_group() as group:
                for _ in range(min(self.endpoint.concurrency, len(contents))):
                    group.start_soon(work)
        if self.failure is not None:
            raise self.failure

    async def answer(self, content: bytes | None) -> Answer:
        endpoint, clock = self.endpoint, self.endpoint.clock
        ends = clock.monotonic() + endpoint.deadline
        left, doubled, attempts, unreadable = endpoint.deadline, FIRST_PAUSE, 0, 0
        while self.failure is None:
            attempts += 1
            address = endpoint.addresses.choose()
            url = address.base_url + self.path
            try:
                return await self.attempt(address, content, max(LEAST_TIME, min(endpoint.timeout, left)))
            except addresses.Transient as transient:
                error = transient
            except errors.AnnotatorError as lasting:
                if endpoint.addresses.leave_out(address, lasting):
                    continue
                raise errors.AnnotatorError(f"{url}: {lasting}") from None
            left = ends - clock.monotonic()
            if left >= LEAST_TIME and self.failure is None and endpoint.addresses.leave_out(address, error):
                continue
            unreadable = unreadable + 1 if error.unreadable else 0
            pause = max(doubled * (0.5 + 0.5 * endpoint.jitter.random()), error.wait or 0.0)
            doubled = min(2 * doubled, LONGEST_PAUSE)
            if self.failure is None and unreadable < MOST_UNREADABLE and pause <= left:
                endpoint.tell(url, error)
                await self.sleep(pause)
                left = ends - clock.monotonic()
                if left >= LEAST_TIME:  # the pause may have been longer than meant
                    continue
            tried = f"after {words.counted(attempts, 'attempt')} in {endpoint.deadline - left:.0f} seconds"
            if error.wait is not None and error.wait > left:
                tried = f"and it asks to wait {error.wait:.0f} seconds, of which {max(0.0, left):.0f} are left"
            raise errors.AnnotatorError(f"{url}: {error.what}, {tried}; {error.hint}")
        raise self.failure

    async def attempt(self, address: addresses.Address, content: bytes | None, seconds: float) -> Answer:
        """Send a request once, and wait no longer than `seconds` for the whole of its answer."""
        address.under_way += 1
        try:
            with anyio.fail_after(seconds):
                response = await self.received(address.base_url, content)
        except TimeoutError:
            raise addresses.Transient(
                f"no answer within {seconds:g} seconds", "look at the server, or give a longer timeout"
            ) from None
        except (httpx2.TransportError, httpx2.DecodingError, httpx2.InvalidURL, OSError) as error:
            raise _broken(error, self.endpoint.key) from None
        finally:
            address.under_way -= 1
        try:
            answer = self.read(response, self.endpoint.key, self.endpoint.clock.today())
        except addresses.Refused:
            address.failures = 0
            raise
        address.failures = 0
        return answer

    async def received(self, base_url: str, content: bytes | None) -> httpx2.Response:
        """An answer with its content, of which no more is taken in than an answer can have."""
        client = self.clients[base_url]
        request = client.build_request(self.method, base_url + self.path, content=content)
        response = await client.send(request, stream=True)
        try:
            taken = bytearray()
            async for part in response.aiter_bytes(PART):
                taken += part
                if len(taken) > LONGEST_ANSWER:
                    raise errors.AnnotatorError(
                        f"{response.status_code}: the answer is longer than {LONGEST_ANSWER >> 20} MiB; check base_url "
                        "and the server"
                    )
        finally:
            await response.aclose()
        response.headers.pop("content-encoding", None)  # the content is decoded
        return httpx2.Response(response.status_code, headers=response.headers, content=bytes(taken))

    async def sleep(self, seconds: float) -> None:
        """A pause that ends when the batch has failed."""
        with anyio.CancelScope() as scope:
            self.pauses.add(scope)
            try:
                await self.endpoint.clock.sleep(seconds)
            finally:
                self.pauses.discard(scope)


def _broken(error: Exception, key: Key) -> addresses.Transient | errors.AnnotatorError:
    said = addresses.excerpt(key.redact(str(error))) or type(error).__name__
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL | httpx2.LocalProtocolError):
        return errors.AnnotatorError(f"the request cannot be sent: {said}; check base_url")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return errors.AnnotatorError(
            f"the server's certificate is not trusted: {said}; check base_url, or name a file of trusted certificates "
            "in SSL_CERT_FILE"
        )
    if isinstance(error, httpx2.ConnectError):
        hint = "check base_url, and that the server is running"
        return addresses.Transient(f"no connection: {said}", hint, gone=True)
    return addresses.Transient(f"the connection broke: {said}", "look at the server", gone=True)
