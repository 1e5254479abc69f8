"""The page on `trueup inspect`: its output is what the command prints, its tables are complete."""

import json
import re
from pathlib import Path

import pytest

from trueup.cli.app import run
from trueup.cli.inspect import inspect
from trueup.inspection.kinds import KINDS

PAGE = (Path(__file__).parents[2] / "docs/inspect.md").read_text()
(ROWS,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(COMMAND,) = re.findall(r"^`trueup (.*)` prints$", PAGE, re.MULTILINE)
(OUTPUT,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text(ROWS)
    return tmp_path


def test_the_output_is_what_the_command_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMAND.split()) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.strip("\n").split("\n")]
    assert printed == OUTPUT.strip("\n").split("\n")


def test_every_kind_of_problem_is_in_the_table() -> None:
    rows = [
        f"| `{kind.name}` | {kind.severity} | {kind.what.replace('{}', '...')} | {kind.remedy} |"
        for kind in KINDS
    ]
    assert re.findall(r"^\| `[a-z-]+` \| (?:error|warning|note) \|.*$", PAGE, re.MULTILINE) == rows


def test_every_key_is_in_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND.split(), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    section = PAGE.partition("## For programs")[2]
    documented = re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", section, re.MULTILINE)
    assert [key for key, _ in documented] == list(printed)
    meant = dict(documented)
    for key, value in printed.items():
        inner = value[0] if isinstance(value, list) and value else value
        for name in inner if isinstance(inner, dict) else ():
            assert f"`{name}`" in meant[key]


def test_every_option_is_in_the_table() -> None:
    options = {f"--{name.replace('_', '-')}" for name in inspect.__annotations__} - {"--files", "--return"}
    table = PAGE.partition("## Options")[2].partition("## ")[0]
    named = set(re.findall(r"`(--[a-z-]+)", table))
    assert named == {option.replace("--as-json", "--json") for option in options}
