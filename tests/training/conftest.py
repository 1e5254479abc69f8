"""Runs that tests compare theirs with, or break."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.broken_runs import MORE
from support.small_runs import break_off, run_here, settings, write_feedback


@pytest.fixture(scope="session")
def uninterrupted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Settings of a DPO run of 12 steps, and the folder of the run, which no test changes."""
    folder = tmp_path_factory.mktemp("whole")
    values = settings("dpo", tiny_model, write_feedback(folder), folder / "run", **MORE)
    run_here("dpo", values)
    return values, folder / "run"


@pytest.fixture(scope="session")
def after_seven_steps(uninterrupted: tuple[dict[str, Any], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("broken") / "run"
    break_off("dpo", {**uninterrupted[0], "output": str(output)}, before_step=8)
    return output


@pytest.fixture
def broken_off(after_seven_steps: Path, tmp_path: Path) -> Path:
    """The folder of that run as it is when it was killed in step 8, saved at 3 and 6; the test's own."""
    return Path(shutil.copytree(after_seven_steps, tmp_path / "run"))
