"""The best step of a run is kept, a run that gets no better ends, and one that is broken off does both as well."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import small_runs
from support.online_runs import online, write_reward

from trueup.errors import InputError
from trueup.settings.run_settings import RunSettings
from trueup.training import api
from trueup.training.loop import Best

HELD_OUT = {"eval_fraction": 0.25, "eval_every": 2, "keep_best": "eval_loss", "learning_rate": 0.1}
"""At this rate the held-out loss falls first, and then rises."""
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "held out": ("dpo", HELD_OUT | {"epochs": None, "steps": 14}),
    "and ended": ("dpo", HELD_OUT | {"epochs": None, "steps": 40, "early_stopping": 2}),
    "ended alone": ("dpo", HELD_OUT | {"epochs": None, "steps": 40, "early_stopping": 2, "keep_best": None}),
    "greater": ("reward-model", HELD_OUT | {"keep_best": "eval_rewards/accuracies", "early_stopping": 2}),
    "samples": ("rloo", {"keep_best": "online/score", "early_stopping": 2, "round_passes": 2, "epochs": 4}),
}  # fmt: skip


def values_of(name: str, model: Path, folder: Path, output: Path) -> tuple[str, dict[str, Any]]:
    method, more = RUNS[name]
    if method == "rloo":
        write_reward(folder)
        return method, online(model, folder, output, **more)
    return method, small_runs.settings(method, model, small_runs.write_feedback(folder), output, **more)


def measured(output: Path, metric: str) -> dict[int, float]:
    """Step whose weights were measured -> the value."""
    if metric != "online/score":
        lines = small_runs.metrics_of(output)
        return {line["step"]: line[metric] for line in lines if metric in line}
    rounds = [json.loads(line) for line in (output / "rounds.jsonl").read_text().splitlines()]
    return {2 * (line["round"] - 1): line["facts"][metric] for line in rounds}


@pytest.mark.parametrize("name", RUNS)
def test_the_best_step_is_kept_and_a_run_that_gets_no_better_ends(
    name: str, tiny_model: Path, tmp_path: Path, told: list[str]
) -> None:
    """The same of one that was killed at a random moment, bit for bit."""
    output, killed = tmp_path / "begun" / "run", tmp_path / "killed" / "run"
    method, values = values_of(name, tiny_model, tmp_path, output)
    chance = random.Random(name)
    with small_runs.snapshot(output, killed.parent, lines=chance.randint(4, 8), looks=1):
        small_runs.run_here(method, values)
    metric = values["keep_best"] or "eval_loss"
    found = measured(output, metric)
    best = (max if metric in ("online/score", "eval_rewards/accuracies") else min)(found, key=found.__getitem__)
    done = json.loads((output / "status.json").read_text())
    if patience := values.get("early_stopping"):
        assert sorted(found).index(best) == len(found) - 1 - patience
        assert done["state"] == "done" and done["step"] == max(found) < done["steps"]
        assert [line for line in told if line.startswith(f"the run ends after step {done['step']} of ")]
    assert best < done["step"]
    model = small_runs.model_bytes(output)
    if values["keep_best"]:
        saved = load_file(output / "checkpoints" / f"step-{best:08d}" / "policy.safetensors")
        kept = load_file(output / "model" / "model.safetensors")
        assert all(torch.equal(kept[key.removeprefix("inner.")], tensor) for key, tensor in saved.items())
        assert f"Result after {best} steps" in (output / "model" / "README.md").read_text()
        assert [line for line in told if line.startswith(f"the finished model is that of step {best}: the ")]
    api.resume(killed, quiet=True)
    assert small_runs.model_bytes(killed) == model != {}
    assert small_runs.metrics_of(killed) == small_runs.metrics_of(output)
    assert json.loads((killed / "status.json").read_text()) == done
    folders = sorted(path.name for path in (output / "checkpoints").iterdir())
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == folders


def test_what_is_best_of_some_values() -> None:
    """Equal ones are no better, a step counts once, and what is no number is never the best."""
    settings = RunSettings(model="m", output="o", data=("d",), eval_fraction=0.1, early_stopping=2)
    best = Best.of(settings)
    assert best is not None and best.metric == "eval_loss"
    seen = [
        best.see(step, {"eval_loss": value, "x": step})
        for step, value in ((1, float("nan")), (2, 3.0), (3, 3.0), (3, 1.0), (4, 2.0), (5, 2.5), (6, 9.0))
    ]
    assert seen == [False, True, False, False, True, False, False]
    assert (best.step, best.values, best.stale, best.over) == (4, {"eval_loss": 2.0, "x": 4}, 2, True)
    again = Best.of(settings)
    assert again is not None
    again.restore(json.loads(json.dumps(best.state())))
    assert again == best
    assert Best.of(settings.model_copy(update={"early_stopping": None})) is None


def test_a_best_checkpoint_that_is_lost_is_told(tiny_model: Path, tmp_path: Path, told: list[str]) -> None:
    method, values = values_of("held out", tiny_model, tmp_path, tmp_path / "run")
    small_runs.break_off(method, values, before_step=13)
    best = min(found := measured(tmp_path / "run", "eval_loss"), key=found.__getitem__)
    (tmp_path / "run" / "checkpoints" / f"step-{best:08d}" / "policy.safetensors").write_bytes(b"")
    api.resume(tmp_path / "run", quiet=True)
    assert [line for line in told if line.startswith("the model is that of the last step, as the best one is lost")]


def test_when_it_is_measured_decides_which_step_is_best(tiny_model: Path, tmp_path: Path) -> None:
    """So that it may not change when a run is resumed, as it may where nothing goes by it."""
    method, values = values_of("held out", tiny_model, tmp_path, tmp_path / "run")
    small_runs.break_off(method, values, before_step=9)
    with pytest.raises(InputError, match=r"eval_every \(was 2, is 3\)"):
        api.resume(tmp_path / "run", {"eval_every": 3}, quiet=True)
