"""Options that pages on gathering feedback show without a command around them: they exist, and take what is given."""

import re
from pathlib import Path

import pytest
from support.page_commands import options

from trueup.cli.app import run
from trueup.config.resolve import Resolved
from trueup.training import api

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("online.md", "sampling.md", "annotators.md", "gathering.md")
SHOWN = {name: options((DOCS / name).read_text()) for name in PAGES}
ANOTHER_PROGRAMS = {"--logprobs-mode"}
WHOLE = [
    words
    for page in SHOWN.values()
    for words in page
    if words[0] in ("--annotator", "--sampler.engine", "--sampler.models", "--sampler.responses")
]


def alike(name: str) -> str:
    """An option without what may be written in two ways."""
    return name.removeprefix("--").removeprefix("no-").replace("_", "-")


def known(command: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    """All options of a command, as its help shows them."""
    more = ["--source", "online", "--help-all"] if command[0] == "train" else ["--help"]
    assert run([*command, *more]) == 0
    return {alike(name) for name in re.findall(r"--[\w.-]+", capsys.readouterr().out)}


def test_each_is_an_option_of_some_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    commands = (["train", "kto"], ["train", "ulma"], ["sample"], ["annotate"])
    there = set().union(*(known(command, capsys) for command in commands))
    named = {word for page in SHOWN.values() for words in page for word in words if word.startswith("--")}
    assert len(named) > 20
    assert {name for name in named if alike(name) not in there} == ANOTHER_PROGRAMS


@pytest.mark.parametrize("words", WHOLE, ids=" ".join)
def test_a_run_takes_them(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[Resolved] = []
    monkeypatch.setattr(api, "run", taken.append)
    asked = [] if words[0] == "--annotator" else ["--annotator", "world:gold"]
    given = ["--model", "M", "--prompts", "prompts.jsonl", "--output", str(tmp_path / "run")]
    assert run(["train", "kto", "--source", "online", *given, *asked, *words]) == 0, capsys.readouterr().err
    assert len(taken) == 1


def test_there_are_some_of_each() -> None:
    kinds = {words[1].partition(":")[0] for words in WHOLE if words[0] == "--annotator"}
    assert {"local", "openai", "reward", "likelihood", "world"} <= kinds
    assert len(WHOLE) > len(kinds) + 3
