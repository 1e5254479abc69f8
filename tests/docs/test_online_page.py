"""The page on online feedback names every metric of a round, and its commands run as they stand."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.faulty_server import FaultyServer
from support.online_runs import online, write_prompts, write_reward
from support.page_commands import answer, at, commands
from support.small_runs import metrics_of, model_bytes, run_here
from support.tiny_reward_models import save_reward

from trueup.cli.app import run

PAGE = Path(__file__).parents[2] / "docs" / "online.md"
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "scores": ("oaif", {}),
    "penalty": ("rrhf", {"reward_kl": 0.1, "max_length": 12}),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_metric_of_a_round_is_named(name: str, tiny_model: Path, tmp_path: Path) -> None:
    method, more = RUNS[name]
    write_reward(tmp_path)
    run_here(method, online(tiny_model, tmp_path, tmp_path / "run", **more))
    logged = {key for line in metrics_of(tmp_path / "run") for key in line if key.startswith("online/")}
    assert len(logged) > 5
    assert logged <= set(re.findall(r"`(online/\w+)`", PAGE.read_text()))


SMALLER = ("--steps", "2", "--sampler.max_new_tokens", "6", "--batch_size", "4")
"""So that the commands take a moment."""


@pytest.mark.slow
@pytest.mark.world
def test_the_commands_one_after_the_other(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    shutil.copytree(tiny_model, "M")
    write_prompts(tmp_path)
    save_reward(tmp_path / "runs" / "rm" / "model")
    given = commands(PAGE.read_text())
    assert len(given) == 5
    with FaultyServer(answer) as server:
        for words in at(server.url, given):
            assert run([*words, *SMALLER]) == 0, words
            assert (Path(words[words.index("--output") + 1]) / "model" / "config.json").is_file()
    assert model_bytes(Path("runs/again")) == model_bytes(Path("runs/oaif"))
