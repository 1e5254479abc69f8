"""No command in the documentation goes untested: each page's commands are run here or by a test of that page."""

import re
from pathlib import Path

import pytest
from support.page_commands import commands

from trueup.cli.app import run

DOCS = Path(__file__).parents[2] / "docs"
ELSEWHERE = {
    "feedback.md": "test_converting.py",
    "gathering.md": "test_gathering.py",
    "inspect.md": "test_inspect_page.py",
    "methods/ca.md": "test_condition_page.py",
    "online.md": "test_online_page.py",
}
"""Pages whose commands need files, and the test that runs them."""


def test_pages_with_commands_are_known() -> None:
    found = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if commands(page.read_text())}
    assert found - {"world.md"} <= set(ELSEWHERE)
    for name, test in ELSEWHERE.items():
        assert Path(name).name in (Path(__file__).parent / test).read_text()


@pytest.mark.slow
@pytest.mark.world
def test_the_commands_of_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = commands((DOCS / "world.md").read_text())
    assert given
    for words in given:
        assert run(words) == 0
    assert (tmp_path / "runs" / "dpo" / "model" / "config.json").is_file()


def test_methods_named_in_pages_are_there() -> None:
    """`trueup train NAME` in running text."""
    from trueup.methods import METHODS

    aliases = {alias for info in METHODS.values() for alias in info.aliases}
    named = {
        name
        for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
        if "decisions" not in page.parts
        for name in re.findall(r"trueup train ([a-z][a-z-]+)", page.read_text())
    }
    assert named - {"sppo"} <= set(METHODS) | aliases
    assert set(METHODS) <= named
