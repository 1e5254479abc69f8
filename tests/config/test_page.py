"""Pages that are made by a program say what the settings and the result files are."""

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["settings", "speed"])
def test_the_page_is_current(page: str) -> None:
    made = subprocess.run([sys.executable, DOCS / f"{page}_page.py"], capture_output=True, text=True, check=True)
    assert made.stdout == (DOCS / f"{page}.md").read_text(encoding="utf-8"), (
        f"docs/{page}.md is not current; make it again: python docs/{page}_page.py > docs/{page}.md"
    )
