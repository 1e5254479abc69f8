"""A real HTTP server on the loopback address that answers as it is told, faults included.

    with FaultyServer([Reply(429, headers={"Retry-After": "1"}), chat("1")]) as server:
        ...                     # ask http://127.0.0.1:PORT/v1, which is `server.url`
    assert [asked.path for asked in server.asked] == ["/v1/chat/completions"] * 2

`answers` are replies in turn, of which the last is given from then on, or a function from what was asked to a reply;
they may be exchanged while the server runs. Where the function raises, status 501 is sent. A dictionary in place of a
reply is sent as JSON with status 200.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    text: str
    at: float  # `time.monotonic()` when it came

    @property
    def body(self) -> Any:
        """The JSON that was sent."""
        return json.loads(self.text)


@dataclass(frozen=True)
class Reply:
    """What to answer. A body that is not text or bytes is sent as JSON."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds to wait before anything is sent
    close: bool = False  # reset the connection instead of answering
    cut: int | None = None  # send only so many bytes of the body, though more were announced, and hang up


Answer = Reply | Mapping[str, Any]
Answers = Sequence[Answer] | Callable[[ReceivedRequest], Answer]


def chat(text: str | None, *, finish: str = "stop", **usage: int) -> Reply:
    """A reply of /chat/completions."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return Reply(body={"object": "chat.completion", "choices": [choice], "usage": usage or _usage()})


def completion(*texts: str, finish: str = "stop") -> Reply:
    """A reply of /completions with a choice for each text."""
    choices = [
        {"index": index, "text": text, "finish_reason": finish, "logprobs": None} for index, text in enumerate(texts)
    ]
    return Reply(body={"object": "text_completion", "choices": choices, "usage": _usage()})


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}


class FaultyServer:
    """Starts with the `with` block, on a port of its own, and is gone after it."""

    def __init__(self, answers: Answers = ()) -> None:
        self.answers = answers
        self.asked: list[ReceivedRequest] = []  # every request that has come, in order
        self.most_at_once = 0  # requests that were under way at the same time
        self._given = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.socket.listen(128)  # of more than it may keep waiting, the system tries each again a second later
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """Where an OpenAI-compatible client finds it: `http://127.0.0.1:PORT/v1`."""
        return f"{self.address}/v1"

    @property
    def bodies(self) -> list[Any]:
        """The JSON of every request that had one."""
        return [asked.body for asked in self.asked if asked.text]

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port: from here on connections are refused."""
        self._over.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def reply_to(self, asked: ReceivedRequest) -> Reply:
        """The next reply."""
        with self._lock:
            self.asked.append(asked)
            answers, turn = self.answers, self._given
            self._given += 1
        if callable(answers):
            try:
                answer = answers(asked)
            except Exception as error:  # a mistake of the test: a client would try again for long
                return Reply(501, {"error": f"the test's server failed: {error!r}"})
        else:
            answer = answers[min(turn, len(answers) - 1)] if answers else Reply(404)
        return answer if isinstance(answer, Reply) else Reply(body=answer)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        length = int(handler.headers.get("Content-Length", 0))
        text = handler.rfile.read(length).decode("utf-8", "surrogateescape")
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = ReceivedRequest(handler.command, handler.path, headers, text, time.monotonic())
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            reply = self.reply_to(asked)
            if reply.delay and self._over.wait(reply.delay):
                reply = Reply(close=True)
        finally:
            with self._lock:
                self._under_way -= 1
        _send(handler, reply)


def _send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    if reply.close:
        _reset(handler)
        return
    body = reply.body
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode("utf-8", "surrogateescape")
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
    try:
        handler.send_response(reply.status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body if reply.cut is None else body[: reply.cut])
        handler.wfile.flush()
    except OSError:  # the client has gone
        handler.close_connection = True
    if reply.cut is not None:
        handler.close_connection = True


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """Hang up so that the client sees a reset, not an end."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def _handler(server: FaultyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            server.handle(self)

        def do_GET(self) -> None:
            server.handle(self)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def finish(self) -> None:
            with suppress(OSError, ValueError):  # the connection was reset on purpose
                super().finish()

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):
                self.close_connection = True

    return Handler
