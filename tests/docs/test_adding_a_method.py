"""docs/adding_a_method.md, followed to the letter in a copy of the package."""

import json
import re
from math import log
from pathlib import Path

import pytest
from support.package_copies import copied, run_commands, run_python
from support.small_runs import write_feedback

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding_a_method.md"
STUB = re.compile(r"`(src/[\w./]+\.pyi)`\.\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^`((?:src|docs)/[\w./-]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the page's files added, a line in the stub, and nothing else changed."""
    folder = tmp_path_factory.mktemp("copy")
    copied(folder)
    files = BLOCK.findall(PAGE.read_text())
    assert [name.split("/")[-2] for name, _ in files] == ["objectives", "methods", "methods"]
    for name, text in files:
        target = folder / name
        assert not (ROOT / name).exists(), f"{name} exists: take another method for the page"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    ((name, line),) = STUB.findall(PAGE.read_text())
    with (folder / name).open("a") as stub:
        stub.write(line)
    return folder / "src"


def test_type_checkers_know_it_and_it_compares_two_responses(copy: Path) -> None:
    stub = (copy / "trueup/methods/__init__.pyi").read_text().splitlines()
    assert [line for line in stub if line.endswith(" as cal_dpo")] == stub[-1:]
    code = "from trueup.methods import METHODS; print(METHODS['cal-dpo'].least_responses)"
    assert run_python(copy, code).stdout.split() == ["2"]


def test_it_is_listed(copy: Path) -> None:
    listed = json.loads(run_commands(copy, ["methods", "--json"]).stdout)
    (row,) = [entry for entry in listed if entry["name"] == "cal-dpo"]
    assert row["title"] == "Calibrated direct preference optimization"


def test_its_settings_are_checked(copy: Path) -> None:
    refused = run_commands(copy, ["train", "cal-dpo", "--beta", "-1", "--model", "m", "--data", "d", "--output", "o"])
    assert refused.returncode == 2
    assert "beta must be greater than 0" in refused.stderr


def test_it_trains_with_a_frozen_and_a_moving_reference(copy: Path, tiny_model: Path, tmp_path: Path) -> None:
    pairs = write_feedback(tmp_path)["pairs"]
    common = ["train", "cal-dpo", "--model", tiny_model, "--data", pairs, "--learning-rate", "3e-3"]
    common += ["--epochs", "4", "--batch-size", "8", "--output"]
    moving = ["--reference.kind", "trust-region", "--reference.alpha", "0.6", "--reference.every", "4"]
    done = run_commands(copy, [*common, tmp_path / "frozen"], [*common, tmp_path / "moving", *moving])
    assert done.returncode == 0, done.stderr
    for name in ("frozen", "moving"):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        assert lines[0]["loss"] == pytest.approx(50 + log(2))  # ln 2 + 2 (1 / (2 beta))^2 at beta 0.1
        assert lines[-1]["loss"] < 49.7 if name == "frozen" else lines[-1]["loss"] < 50.7
        assert any(line["reference/moved"] for line in lines) == (name == "moving")
