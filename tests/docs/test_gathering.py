"""Every command of docs/gathering.md runs as it stands, with servers that answer."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faulty_server import FaultyServer
from support.page_commands import answer, at, commands
from support.small_runs import write_feedback
from support.tiny_models import save_tiny_model

from trueup.cli.app import run
from trueup.feedback.read import read_feedback

PAGE = (Path(__file__).parents[2] / "docs" / "gathering.md").read_text()
COMMANDS = commands(PAGE)
SMALLER = {"train": ("--epochs", "1"), "sample": ("--max-new-tokens", "6")}
"""So that the commands take a moment; a setting that is given twice counts as it is given last."""


@pytest.fixture
def server(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    write_feedback(tmp_path, count=8)
    shutil.copytree(tiny_model, "A")
    save_tiny_model(tmp_path / "B", seed=1)
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"say {at}:"}) + "\n" for at in range(4)))
    Path("rewards.py").write_text("def brevity(prompt, response):\n    return -len(response)\n")
    with FaultyServer(answer) as running:
        yield running


def test_the_commands_one_after_the_other(server: FaultyServer) -> None:
    assert len(COMMANDS) == 8
    for given in at(server.url, COMMANDS):
        assert run([*given, *SMALLER.get(given[0], ())]) == 0, given
        output = Path(given[given.index("--output") + 1])
        if output.suffix == ".jsonl":
            assert read_feedback([output]).examples
    scored = read_feedback(["best.jsonl"]).examples
    assert [len(one.responses) for one in scored] == [1] * 4
    assert (Path("runs") / "ulma" / "model" / "config.json").is_file()
