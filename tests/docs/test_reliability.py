"""docs/reliability.md shows what the campaign counted, and the campaign runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def campaign(*arguments: object) -> str:
    command = [sys.executable, ROOT / "benchmarks/campaign/run.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_page_is_current() -> None:
    assert campaign("--page") == (ROOT / "docs" / "reliability.md").read_text()


@pytest.mark.slow
def test_a_few_cases_of_what_no_table_holds(tmp_path: Path) -> None:
    """Random values in folders of models, names and settings, and random damage to a run."""
    counts = tmp_path / "counts.json"
    campaign("--parts", "hostile", "damage", "--count", 2, "--first", 40, "--output", counts)
    campaign("--parts", "judges", "--count", 1, "--output", counts)
    found = json.loads(counts.read_text())
    assert {name: part["cases"] for name, part in found.items()} == {"damage": 2, "judges": 1, "hostile": 2}
