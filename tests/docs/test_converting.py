"""Every command of the section on converting in docs/feedback.md runs as it stands and says what it says there."""

import re
import shlex
from pathlib import Path

import pytest
from support.small_runs import write_feedback

from trueup.cli.app import run

PAGE = (Path(__file__).parents[2] / "docs" / "feedback.md").read_text().partition("\n## Converting\n")[2]
SECTION = PAGE.partition("\n## ")[0]
COMMANDS = [shlex.split(line) for line in re.findall(r"^    trueup (.+)$", SECTION, re.MULTILINE)]
SAID = [line for line in re.findall(r"^    (.+)$", SECTION, re.MULTILINE) if not line.startswith("trueup ")]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 3 and len(SAID) == 4


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_a_command(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_feedback(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(words) == 0
    said = capsys.readouterr().err.splitlines()
    if "compared.jsonl" in words:
        assert said == SAID
    else:
        assert not any(line.startswith("trueup: ") for line in said)
