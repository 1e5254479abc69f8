"""docs/reliability.md shows what the campaign counted, and the campaign runs."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CAMPAIGN = ROOT / "benchmarks/campaign/run.py"


def test_the_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CAMPAIGN.parent)
    counts = json.loads(CAMPAIGN.with_name("result.json").read_text())
    assert runpy.run_path(str(CAMPAIGN))["page"](counts) + "\n" == (ROOT / "docs" / "reliability.md").read_text()


@pytest.mark.slow
def test_a_few_cases_of_what_no_table_holds(tmp_path: Path) -> None:
    """Random values in folders of models, names and settings, random damage to a run, and a judge that fails."""
    counts = tmp_path / "counts.json"
    parts = ("hostile", "damage", "judges")
    subprocess.run(
        [sys.executable, CAMPAIGN, "--parts", *parts, "--count", "1", "--first", "42", "--output", counts],
        check=True, capture_output=True,
    )  # fmt: skip
    assert {name: part["cases"] for name, part in json.loads(counts.read_text()).items()} == dict.fromkeys(parts, 1)
