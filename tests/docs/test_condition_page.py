"""The commands of docs/methods/ca.md run as they stand, and say what the page says they do."""

import re
import shlex
from pathlib import Path

import pytest

from trueup.cli.app import run

PAGE = (Path(__file__).parents[2] / "docs" / "methods" / "ca.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^    trueup (.+)$", PAGE, re.MULTILINE)]
ROW = re.compile(r"\| +(\S+) \| ' score (\S+)' \| +(\S+) \+- (\S+) \| +(\S+) \+- (\S+) \| ([\w, ]*?) +\|")
Row = tuple[str, ...]


def rows(text: str) -> list[Row]:
    """What was asked for, as what, mean and error of reward and of length, marks."""
    return ROW.findall(text)


def test_the_page_shows_two_commands_and_a_table() -> None:
    assert [words[0] for words in COMMANDS] == ["train", "condition"]
    assert len(rows(PAGE)) == 4


@pytest.mark.slow
@pytest.mark.world
def test_the_commands_give_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same rewards with the same marks; means within four standard errors, as other machines round otherwise."""
    monkeypatch.chdir(tmp_path)
    for words in COMMANDS:
        assert run(words) == 0
    said = capsys.readouterr()
    found, shown = rows(said.out), rows(PAGE)
    assert [(row[0], row[1], row[6]) for row in found] == [(row[0], row[1], row[6]) for row in shown]
    for got, wanted in zip(found, shown, strict=True):
        for at in (2, 4):
            error = (float(got[at + 1]) ** 2 + float(wanted[at + 1]) ** 2) ** 0.5
            assert abs(float(got[at]) - float(wanted[at])) < 4 * error, (got, wanted)
    assert said.out.splitlines()[-1] == "the model asks for the best already: 0.9326"
