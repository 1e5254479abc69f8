"""Every command and every piece of Python in the README runs as it stands, in an empty folder."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from support.faulty_server import FaultyServer
from support.online_runs import write_prompts
from support.page_commands import answer, at, commands
from support.small_runs import write_feedback
from support.tiny_models import save_tiny_model

from trueup.cli.app import run

README = Path(__file__).parents[2] / "README.md"
COMMANDS = commands(README.read_text())
(PYTHON,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    save_tiny_model(folder / "MODEL")
    save_tiny_model(folder / "OTHER", seed=1)
    write_prompts(folder)
    kinds = write_feedback(folder)
    thumbs = [{"prompt": f"say {n}:", "completion": f" {n}", "label": bool(n % 2)} for n in range(8)]
    (folder / "thumbs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in thumbs))
    (folder / "scored.jsonl").write_text(kinds["rankings"].read_text())
    (folder / "judge.py").write_text("def score(prompt, response):\n    return -len(response)\n")
    trl = {
        "model_name_or_path": "MODEL",
        "dataset_name": str(kinds["pairs"]),
        "output_dir": "runs/trl",
        "max_steps": 2,
    }
    (folder / "your_trl_config.yaml").write_text(yaml.safe_dump(trl))
    ours = {"model": "MODEL", "data": ["pairs.jsonl"], "output": "runs/tr", "steps": 2}
    (folder / "run.yaml").write_text(yaml.safe_dump(ours))
    return folder


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.slow
@pytest.mark.world
@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_a_command(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with FaultyServer(answer) as server:
        code = run(next(at(server.url, [words])))
    said = capsys.readouterr()
    if "--resume" in words:  # the run above it in the README has not been interrupted
        assert code == 2
        assert "is done" in said.err
        return
    assert code == 0, said.err
    assert "Loading weights" not in said.err and "Writing model" not in said.err


def test_the_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    exec(compile(PYTHON, str(README), "exec"), {})
    printed = capsys.readouterr().out.split()
    assert printed[0] == "runs/tr-dpo/model"
    assert 0 < float(printed[1]) < 1
