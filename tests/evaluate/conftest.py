"""Runs, and files of responses, that are evaluated."""

from pathlib import Path

import pytest
from support.small_runs import break_off, run_here, settings, write_feedback
from support.tiny_models import save_tiny_model


@pytest.fixture(scope="session")
def evaluated(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished runs, one broken off, another model, feedback and prompts; read only."""
    folder = tmp_path_factory.mktemp("evaluated")
    data = write_feedback(folder, easy=True)
    for name in ("dpo", "tr-dpo"):
        run_here(name, settings(name, tiny_model, data, folder / name, learning_rate=3e-2))
    break_off("dpo", settings("dpo", tiny_model, data, folder / "broken", steps=12, epochs=None), before_step=8)
    save_tiny_model(folder / "other", seed=1)
    (folder / "prompts.jsonl").write_text("".join(f'{{"prompt": "say {at}:"}}\n' for at in range(24)))
    (folder / "rewards.py").write_text("def brevity(prompt, response):\n    return -len(response)\n")
    return folder
