"""A client for OpenAI-compatible endpoints that outlasts what passes and stops at what does not.

A request that fails for a reason that may pass is sent again after a pause that doubles each time, is drawn at random
so that many clients do not come back together, and is never shorter than what `Retry-After` asks for. Brooker, 2015,
Exponential backoff and jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
"""

from __future__ import annotations

import json
import queue
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal

from trueup.endpoints.key import Key
from trueup.endpoints.key import redact as redact_any
from trueup.endpoints.reply import Read, read_order, read_probe, read_reply
from trueup.endpoints.requests import Clock, Requests, Warned
from trueup.errors import AnnotatorError, InputError, Stopped

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that cannot be answered, though others can: too long for the model, say."""

    reason: str
    """`400: This model's maximum context length is 512 tokens`, without secrets."""


class RequestRefused(Exception):
    """Raised by `post` and `get` in place of an answer."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.reason)
        self.refused = refused
        self.reason = refused.reason


class Endpoint:
    """Asks one server; thread-safe.

    Nothing is sent before the first request. Every message is one line, without secrets, and names the address, what
    came back and what to do.

    Args:
        base_url: as in `http://localhost:8000/v1`, without user, query or fragment.
        key: None, or an empty one, where the server wants none.
        timeout: seconds to wait for one answer.
        deadline: seconds over which a request that fails is sent again.
        concurrency: requests under way at a time.
        warn: told once of each reason for which requests are sent again; in the thread that asks.
        poll: raises Stopped once the user has asked to stop; called about ten times a second while waiting.
        transport: in place of the network, as `httpx2.MockTransport`.
        clock: in place of time.
        jitter: draws the pauses.

    Raises:
        InputError: base_url is no address, or holds what could be secret.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: Key | None,
        timeout: float,
        deadline: float,
        concurrency: int,
        warn: Callable[[str], None] = lambda text: None,
        poll: Callable[[], None] = lambda: None,
        transport: Any = None,
        clock: Clock | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self.base_url = _checked(base_url)
        self.key = key
        self._warn, self._poll = warn, poll
        self._told: set[str] = set()
        self._requests = Requests(
            self.base_url,
            key=key,
            timeout=timeout,
            deadline=deadline,
            concurrency=concurrency,
            transport=transport,
            clock=clock or Clock(),
            jitter=jitter or random.Random(),
        )

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url})"

    def redact(self, text: str) -> str:
        """The text without the key and without whatever else looks like a secret."""
        return self.key.redact(text) if self.key is not None else redact_any(text)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request.

        Args:
            path: behind base_url, beginning with a slash.

        Raises:
            RequestRefused: this request cannot be answered.
            AnnotatorError: as of `each`.
            Stopped: the user asked to stop.
        """
        return self._answered(self._one("POST", path, body, read_reply))

    def get(self, path: str) -> dict[str, Any]:
        """As `post`, for a request without a body."""
        return self._answered(self._one("GET", path, None, read_reply))

    def order(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        """As `post`, for a request whose answer is its status alone; a server that fails over it is not asked again."""
        self._answered(self._one("POST", path, body, read_order))

    def probe(self, path: str) -> dict[str, Any] | None:
        """The JSON at a path; None where there is none."""
        found = self._one("GET", path, None, read_probe)
        return None if isinstance(found, Refused) else found

    def has(self, path: str) -> bool:
        """Whether the server knows a path, for whatever method."""
        return self._one("GET", path, None, read_probe) != Refused("404")

    def each(
        self, path: str, bodies: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[int, dict[str, Any] | Refused]]:
        """The answer to each request with the number of its body, as answers come in.

        Before an error is raised, every answer that has come is handed out.

        Raises:
            AnnotatorError: the server cannot be reached within the deadline, does not let us in, or answers in a way
                that no request will mend.
            Stopped: the user asked to stop.
        """
        contents = [json.dumps(body).encode("ascii") for body in bodies]
        yield from self._exchange("POST", path, contents, read_reply)

    def _one(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Read
    ) -> dict[str, Any] | Refused:
        content = None if body is None else json.dumps(body).encode("ascii")
        ((_, answer),) = self._exchange(method, path, [content], read)
        return answer

    @staticmethod
    def _answered(answer: dict[str, Any] | Refused) -> dict[str, Any]:
        if isinstance(answer, Refused):
            raise RequestRefused(answer)
        return answer

    def _exchange(
        self, method: str, path: str, contents: Sequence[bytes | None], read: Read
    ) -> Iterator[tuple[int, dict[str, Any] | Refused]]:
        """Answers from an event loop in a thread of its own, so that waiting can be given up at any moment."""
        if not contents:
            return
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stopped: Stopped | None = None
        with start_blocking_portal() as portal:
            task = portal.start_task_soon(self._requests.run, method, path, contents, read, events.put)
            task.add_done_callback(lambda _: events.put(None))
            try:
                while True:
                    try:
                        self._poll()
                    except Stopped as error:
                        stopped = error
                        task.cancel()
                    try:
                        event = events.get(timeout=None if stopped else POLL_SECONDS)
                    except queue.Empty:
                        continue
                    if event is None:
                        break
                    if isinstance(event, Warned):
                        self._tell(event)
                        continue
                    number, answer = event
                    yield number, Refused(answer) if isinstance(answer, str) else answer
            finally:
                task.cancel()
        if stopped is not None:
            raise stopped
        failure = task.result()
        if failure is not None:
            raise AnnotatorError(failure)

    def _tell(self, warned: Warned) -> None:
        if warned.kind not in self._told:
            self._told.add(warned.kind)
            self._warn(warned.text)


def _checked(base_url: str) -> str:
    """The address without a slash at its end."""
    try:
        parts = urlsplit(base_url)
        readable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        readable = False
    if not readable:
        raise InputError(
            f"base_url {redact_any(base_url)!r} is no address; give one as in http://localhost:8000/v1"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            f"base_url of {parts.hostname} holds a user, a password, a query or a fragment, which would stand in every "
            "message; give the address alone, and the key in an environment variable"
        )
    return base_url.rstrip("/")
