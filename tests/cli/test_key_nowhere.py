"""Whatever an endpoint repeats of the key that lets one in, in whatever spelling: nothing that is written shows it."""

from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import pair, write
from support.faulty_server import FaultyServer, ReceivedRequest, Reply
from support.judge_answers import first_with
from support.judged_runs import judged
from support.key_spellings import SECRET, SPELLED, shown_of_the_key
from support.small_runs import command, options

ERRORS = (401, 403, 400, 404, 422)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = (pair(f"say {at}:", f" good {at}", f" bad {at}") for at in range(len(SPELLED)))
    write(tmp_path / "pairs.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "TRUEUP_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    return tmp_path


class Repeats:
    """Says the key in one spelling after the other: as an answer, beside a verdict, or as the reason of an error."""

    def __init__(self, kind: str, status: int = 200) -> None:
        self.kind, self.status, self.spellings = kind, status, cycle(SPELLED.values())

    def __call__(self, asked: ReceivedRequest) -> Any:
        assert asked.headers["authorization"] == f"Bearer {SECRET}"
        said = f"you sent {next(self.spellings)} here"
        if asked.method == "GET":
            return {"object": "list", "data": [{"id": "J"}, {"id": said}]}
        if self.kind == "error":
            return Reply(self.status, {"error": {"message": said, said: said}}, {"X-Key": SECRET})
        if self.kind == "page":
            return Reply(self.status, f"<html><b>{said}</b>")
        verdict = first_with(0.7)
        message = {"role": "assistant", "content": said}
        choice = {"text": said, "message": message, "finish_reason": "stop", "index": 0}
        if self.kind == "verdict":
            verdict["choices"][0]["message"]["content"] = said
            verdict["choices"][0]["logprobs"]["content"][0]["top_logprobs"].append({"token": said, "logprob": -9.0})
            return {**verdict, "system_fingerprint": said}
        return {"choices": [choice | {"index": at} for at in range(asked.body.get("n") or 1)], "id": said}


def nothing_shown(place: Path, said: str) -> None:
    """On the screen and in every file, by name and by content; the key's own mark is there in its place."""
    texts = {"the screen": said} | {
        str(one.relative_to(place)): one.read_bytes().decode("latin-1") for one in place.rglob("*") if one.is_file()
    }
    assert {name: found for name, text in texts.items() if (found := shown_of_the_key(name + text))} == {}


@pytest.mark.parametrize("kind", ["answer", "verdict", "error", "page"])
@pytest.mark.parametrize("work", ["rewrite", "annotate", "sample"])
def test_the_key_is_in_nothing_written(work: str, kind: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyServer() as server:
        arguments = f"annotate pairs.jsonl --annotator openai --annotator.model J --annotator.base_url {server.url}"
        arguments += " --annotator.max-unreadable 1" + " --rewrite" * (work == "rewrite")
        if work == "sample":
            arguments = f"sample --data pairs.jsonl --engine server --base-url {server.url} --server-model J"
            arguments += " --responses 2"
        for status in ERRORS if kind in ("error", "page") else (200,):
            server.answers = Repeats(kind, status)
            code = command(*arguments.split(), "--output", "out.jsonl", "--overwrite")
            nothing_shown(place, "".join(capsys.readouterr()))
            if kind == "answer" and work != "annotate":
                assert code == 0 and Path("out.jsonl").read_text().count("***") >= len(SPELLED)


@pytest.mark.parametrize("kind", ["verdict", "error"])
def test_the_key_is_in_no_file_of_a_run(
    kind: str, place: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultyServer(Repeats(kind, 400)) as server:
        values = judged(tiny_model, place, place / "run", server.url, **{"epochs": 1})
        code = command("train", "oaif", *options(values))
    assert (code == 0) == (kind == "verdict")
    nothing_shown(place, "".join(capsys.readouterr()))
