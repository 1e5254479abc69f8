"""Figures of tables in README and docs are those of the result file that their section names; docs/speed.md is made of
such files and serves as one."""

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
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").glob("*.md")} - {SPEED})]
LINK = re.compile(r"\(([\w./]+\.json|docs/speed\.md)\)")
CELL = re.compile(r" *[-+]?[\d.,]+ *(%|x|s|MB|KB)?(, [-+]?[\d.,]+%?)*( \([\d.]+% to [\d.]+%\))? *")
FIGURE = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?")
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


def sections() -> Iterator[tuple[str, list[str], list[Path]]]:
    """A name, the rows of tables, and the files that are linked, of each section that has both."""
    for page in PAGES:
        for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE):
            rows = [line for line in section.splitlines() if line.startswith("|")]
            files = [page.parent / name for name in LINK.findall(section)]
            if rows and files:
                yield f"{page.name}: {section.splitlines()[0]}", rows, files


@pytest.mark.parametrize("rows, files", [pytest.param(rows, files, id=name) for name, rows, files in sections()])
def test_a_table_shows_what_its_file_holds(rows: list[str], files: list[Path]) -> None:
    texts = ((file.suffix, file.read_text()) for file in files)
    given = [json.loads(text) if suffix == ".json" else text for suffix, text in texts]
    held = [number * scale for number in numbers(given) for scale in SCALES]
    for row in rows:
        for cell in filter(CELL.fullmatch, row.strip("|").split("|")[1:]):
            for figure in FIGURE.findall(cell):
                value, digits = float(figure.replace(",", "")), len(figure.partition(".")[2])
                off = min(abs(abs(number) - abs(value)) for number in held)
                assert off <= 0.51 * 10**-digits, f"{figure} of {row}"


def test_they_are_many() -> None:
    assert len(list(sections())) >= 5


def test_the_page_of_speed_is_current() -> None:
    page = subprocess.run([sys.executable, ROOT / "docs/speed_page.py"], capture_output=True, text=True, check=True)
    assert page.stdout == SPEED.read_text()
