"""docs/settings.md says what the settings are."""

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_current() -> None:
    made = subprocess.run(
        [sys.executable, DOCS / "settings_page.py"], capture_output=True, text=True, check=True
    )
    assert made.stdout == (DOCS / "settings.md").read_text(encoding="utf-8"), (
        "docs/settings.md is not current; make it again: python docs/settings_page.py > docs/settings.md"
    )
