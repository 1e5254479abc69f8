"""Figures of README and docs are those of the result files that their section names, in tables and in sentences;
docs/speed.md and the pages of claims are made of such files and serve as one."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SPEED = ROOT / "docs" / "speed.md"
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").glob("*.md"), *(ROOT / "docs/methods").glob("*.md")} - {SPEED})]
LINK = re.compile(r"\(([\w./]+\.json|docs/speed\.md|(?:docs/)?claims/\w+\.md)\)")
CELL = re.compile(r" *[-+]?[\d.,]+ *(%|x|s|MB|KB)?(, [-+]?[\d.,]+%?)*( \([\d.]+% to [\d.]+%\))? *")
FIGURE = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?")
MEASURED = re.compile(r"(?<![\w./-])[+-]?\d[\d,]*(?:\.\d+(?![\w-])|(?= ?(?:%|(?:s|[MG]i?B|seconds|nats|times)\b)))")
"""A figure of a sentence that is no count: with decimals, or a unit."""
SCALES = (1, 100, 1 / 1000, 1e-6, 1 / 2**20)
"""In which a page may give what a file holds: itself, per cent, thousands, millions, MiB."""


def numbers(held: Any) -> Iterator[float]:
    """Every number of a file's content, those in its strings and keys as well."""
    if isinstance(held, dict):
        yield from (number for pair in held.items() for part in pair for number in numbers(part))
    elif isinstance(held, list):
        yield from (number for part in held for number in numbers(part))
    elif isinstance(held, str):
        yield from (float(found.replace(",", "")) for found in FIGURE.findall(held))
    elif isinstance(held, int | float):
        yield float(held)


def sections() -> Iterator[tuple[str, str, list[Path]]]:
    """A name, the text, and the files that are linked, of each section that has some."""
    for page in PAGES:
        for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE):
            if files := [page.parent / name for name in LINK.findall(section)]:
                yield f"{page.name}: {section.splitlines()[0]}", section, files


@pytest.mark.parametrize("text, files", [pytest.param(text, files, id=name) for name, text, files in sections()])
def test_a_section_shows_what_its_files_hold(text: str, files: list[Path]) -> None:
    texts = ((file.suffix, file.read_text()) for file in files)
    given = [json.loads(text) if suffix == ".json" else text for suffix, text in texts]
    held = [number * scale for number in numbers(given) for scale in SCALES]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [cell for row in rows for cell in filter(CELL.fullmatch, row.strip("|").split("|")[1:])]
    prose = "\n".join(line for line in text.splitlines() if not line.startswith(("|", "    ")))
    said = MEASURED.findall(re.sub(r"`[^`]*`|\]\([^)]*\)", "", prose))
    for figure in [*said, *(figure for cell in cells for figure in FIGURE.findall(cell))]:
        value, digits = float(figure.replace(",", "")), len(figure.partition(".")[2])
        off = min(abs(abs(number) - abs(value)) for number in held)
        assert off <= 0.51 * 10**-digits, figure


def test_they_are_many() -> None:
    assert len(list(sections())) >= 10


def test_the_page_of_speed_is_current() -> None:
    page = subprocess.run([sys.executable, ROOT / "docs/speed_page.py"], capture_output=True, text=True, check=True)
    assert page.stdout == SPEED.read_text()
