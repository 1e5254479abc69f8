"""What the tests of broken runs share."""

from pathlib import Path
from typing import Any

import pytest
from support.broken_runs import MORE
from support.small_runs import run_here, settings, write_feedback


@pytest.fixture(scope="session")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Settings of a run of 12 steps, and the run."""
    folder = tmp_path_factory.mktemp("whole")
    values = settings("dpo", tiny_model, write_feedback(folder), folder / "run", **MORE)
    run_here("dpo", values)
    return values, folder / "run"
