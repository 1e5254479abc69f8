"""Settings of a run do what they say."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support.refusals import refused
from support.small_runs import at_step, losses, metrics_of, model_bytes, run_here, settings, write_feedback


def run(method: str, model: Path, folder: Path, name: str = "run", **more: Any) -> Path:
    run_here(method, settings(method, model, write_feedback(folder), folder / name, **more))
    return folder / name


def test_checkpoints_are_saved_ten_times_a_run_unless_told_otherwise(tiny_model: Path, tmp_path: Path) -> None:
    """12 steps: every second one; two are kept."""
    output = run("dpo", tiny_model, tmp_path, save_every=None)
    names = sorted(path.name for path in (output / "checkpoints").iterdir())
    assert names == ["step-00000010", "step-00000012"]


def test_lines_are_written_as_often_as_asked_and_at_the_end(tiny_model: Path, tmp_path: Path) -> None:
    output = run("dpo", tiny_model, tmp_path, log_every=5, eval_fraction=0.25, eval_every=4)
    steps = [(line["step"], "loss" in line, "eval_loss" in line) for line in metrics_of(output)]
    assert steps == [
        (4, False, True), (5, True, False), (8, False, True), (9, True, False), (9, False, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "more, steps, epoch",
    [({"epochs": None, "steps": 5}, 5, 20 / 24), ({"epochs": 0.5}, 3, 0.5), ({"epochs": 1.5}, 9, 1.5),
     ({"batch_size": 100, "epochs": 1}, 1, 1.0), ({"batch_size": 7, "epochs": 1}, 4, 1.0)],
)  # fmt: skip
def test_how_long_a_run_is(more: dict[str, Any], steps: int, epoch: float, tiny_model: Path, tmp_path: Path) -> None:
    last = metrics_of(run("dpo", tiny_model, tmp_path, **more))[-1]
    assert last["step"] == steps
    assert last["epoch"] == pytest.approx(epoch, rel=1e-15)


@pytest.mark.parametrize("weights", [{}, {"lora.rank": 3}], ids=["full", "lora"])
def test_ways_to_compute_it_agree(weights: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    """Float32 in other orders, carried on by 6 steps of 1e-3; an error in a layout would show in the first."""
    ways: dict[str, dict[str, Any]] = {
        "grouped": {}, "dense": {"attention": "dense"}, "padded": {"attention": "padded"},
        "checkpointing": {"gradient_checkpointing": True},
    }  # fmt: skip
    more = {"epochs": 1, "learning_rate": 1e-3, "reference.kind": "trust-region", "reference.every": 2}
    found = {way: losses(run("dpo", tiny_model, tmp_path, way, **more, **weights, **ways[way])) for way in ways}
    for way in ways:
        assert found[way] == pytest.approx(found["grouped"], abs=1e-4)
        assert found[way][0] == pytest.approx(math.log(2), abs=1e-6)


def test_sequences_longer_than_the_model_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with refused(r"max_length 513 is more than the 512 positions .*--max-length 512 or less"):
        run("dpo", tiny_model, tmp_path, max_length=513)
    assert run("dpo", tiny_model, tmp_path, max_length=512, epochs=0.2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_named(tiny_model: Path, tmp_path: Path) -> None:
    with refused("device cuda was asked for, but torch finds no GPU here"):
        run("dpo", tiny_model, tmp_path, device="cuda")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_removed_during_the_run_costs_no_model(uninterrupted: Any, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with at_step(5, lambda policy: shutil.rmtree(output)):
        run_here("dpo", {**uninterrupted[0], "output": str(output)})
    assert model_bytes(output) == model_bytes(uninterrupted[1]) != {}
    card = (output / "model" / "README.md").read_text()
    written = yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0])
    assert written["settings"]["learning_rate"] == 3e-3


@pytest.mark.parametrize("ratio, warmup", [(0.2, 3), (0.25, 3), (0.01, 1), (0.0, 0)])
def test_a_share_of_the_steps_to_warm_up_in_is_rounded_up(
    ratio: float, warmup: int, tiny_model: Path, tmp_path: Path
) -> None:
    """2.4, 3, 0.12 and none of 12 steps."""
    values = settings("sft", tiny_model, write_feedback(tmp_path), tmp_path / "run", schedule="constant")
    run_here("sft", {**values, "warmup_ratio": ratio})
    rates = [line["learning_rate"] for line in metrics_of(tmp_path / "run")]
    assert rates == pytest.approx([3e-3 * min(1, step / max(warmup, 1)) for step in range(1, 13)])


@pytest.mark.parametrize("beta1, beta2", [(0.9, 0.999), (0.5, 0.999), (0.9, 0.5)])
def test_the_optimizer_averages_with_the_rates_given(
    beta1: float, beta2: float, tiny_model: Path, tmp_path: Path
) -> None:
    """After one step the mean of gradients is (1 - beta1) g and that of their squares (1 - beta2) g^2."""
    rates = {"adam_beta1": beta1, "adam_beta2": beta2, "max_grad_norm": 0.0}
    output = run("sft", tiny_model, tmp_path, batch_size=100, epochs=1, **rates)
    state = load_file(output / "checkpoints" / "step-00000001" / "optimizer.safetensors")
    means = {name.removesuffix(".exp_avg"): value for name, value in state.items() if name.endswith(".exp_avg")}
    for name, mean in means.items():
        square = state[f"{name}.exp_avg_sq"]
        seen = mean.abs() > 1e-6
        expected = mean[seen] ** 2 * (1 - beta2) / (1 - beta1) ** 2
        torch.testing.assert_close(square[seen], expected, rtol=1e-4, atol=0)
    assert len(means) > 10
