"""docs/settings.md says what the settings are."""

from pathlib import Path

from trueup.config.page import render


def test_the_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == render(), (
        "docs/settings.md is not current; make it again: python -m trueup.config.page > docs/settings.md"
    )
