"""The demo from end to end: methods improve the gold reward, and the table says by how much."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trueup.errors import InputError


@pytest.mark.slow
@pytest.mark.world
def test_each_kind_of_feedback_improves_the_gold_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less of the demo's feedback, and fewer steps, which are longer for PPO."""
    from trueup.demo import PLAN, Policy, run

    monkeypatch.setattr(sys.modules[Policy.__module__], "PROMPTS", 128)

    assert list(PLAN) == ["SFT", "DPO", "TR-DPO", "RRHF", "CA", "KTO", "ULMA", "OAIF", "PPO"]
    names = ("SFT", "OAIF", "PPO")
    for name, changes in (
        ("SFT", {"steps": 32}),
        ("OAIF", {"steps": 48}),
        ("PPO", {"steps": 40, "learning_rate": 3e-3}),
    ):
        entry = PLAN[name]
        monkeypatch.setitem(PLAN, name, replace(entry, settings={**entry.settings, **changes}))
    rows = run(tmp_path / "demo", names, quiet=True)
    assert tuple(row.name for row in rows) == names
    for row in rows:
        gain = row.after.value - row.before.value
        assert gain > 4 * (row.after.error**2 + row.before.error**2) ** 0.5, row
        assert row.kl.value > 4 * row.kl.error, row
    assert rows[0].wins is None
    assert all(row.wins is not None and 0 < row.wins.value < 1 for row in rows[1:])
    written = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert [entry["method"] for entry in written] == [row.name for row in rows]
    assert written[1]["gold_after"]["value"] == rows[1].after.value


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    from trueup.demo import run

    with pytest.raises(InputError, match="exists already; remove it, or give another folder with --output"):
        run(tmp_path)
