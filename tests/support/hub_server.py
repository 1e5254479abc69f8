"""A small hub on the loopback: just enough of its protocol to read data sets and models from it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class Hub:
    """What the hub holds: `Hub({"ann/pairs": {"train.jsonl": b"..."}})`; a commit is the hash of the files.
    `ann/pairs@v1` are the files at a tag or branch of `ann/pairs`. Names of models begin with `models/`."""

    def __init__(self, repositories: dict[str, Files], failing: dict[str, tuple[int, str]] | None = None) -> None:
        self.repositories = repositories
        self.failing = failing or {}  # repository -> the status and the kind of error that every question about it gets
        self.tokens: set[str] = set()  # what came in as authorisation
        self.sent: list[str] = []  # names of the files that went out
        self.address = ""

    def at(self, name: str, revision: str) -> str | None:
        """The repository, or the revision of it, that a commit, tag or branch stands for."""
        for one in self.repositories:
            if one == name and revision in ("main", self.commit(one)):
                return one
            if one.startswith(f"{name}@") and revision in (one.partition("@")[2], self.commit(one)):
                return one
        return None

    def commit(self, name: str) -> str:
        return hashlib.sha1(json.dumps(sorted(map(repr, self.repositories[name].items()))).encode()).hexdigest()

    @contextmanager
    def running(self) -> Iterator["Hub"]:
        """Serve on a free port of the loopback."""
        with ThreadingHTTPServer(("127.0.0.1", 0), handler(self)) as server:
            Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self.address = f"http://127.0.0.1:{server.server_port}"
            yield self
            server.shutdown()

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and further headers for a path."""
        parts = path.removeprefix("/api").lstrip("/").split("/")
        if parts[0] not in ("datasets", "models"):  # the files of models are asked for without a kind
            parts = ["models", *parts]
        name, rest = "/".join(parts[parts[0] == "datasets" : 3]), parts[3:]
        if name in self.failing:
            status, kind = self.failing[name]
            return status, b"", {"X-Error-Code": kind}
        if name not in self.repositories:
            return 404, b"", {"X-Error-Code": "RepoNotFound"}
        held = self.at(name, rest[1] if len(rest) > 1 else "main")
        if held is None:
            return 404, b"", {"X-Error-Code": "RevisionNotFound"}
        files, commit = self.repositories[held], self.commit(held)
        if rest[:1] == ["resolve"]:
            content = files.get("/".join(rest[2:]))
            if content is None:
                return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return 200, content, {"ETag": tag, "X-Repo-Commit": commit}
        if rest[:1] == ["tree"]:
            if len(rest) > 2:
                return 404, b"", {"X-Error-Code": "EntryNotFound"}
            listed = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return 200, json.dumps(listed).encode(), {"Content-Type": "application/json"}
        told = {"id": name, "sha": commit, "siblings": [{"rfilename": path} for path in files]}
        return 200, json.dumps(told).encode(), {"Content-Type": "application/json"}


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    """How requests are answered."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.tokens.add(self.headers.get("Authorization", ""))
            path = unquote(urlsplit(self.path).path)
            status, content, headers = hub.answer(path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                hub.sent += [path.partition("/resolve/")[2].partition("/")[2]] if "/resolve/" in path else []
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
