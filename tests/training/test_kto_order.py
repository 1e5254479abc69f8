"""KTO on the same thumbs, sorted and shuffled: the order of a file says nothing of the model that comes out. Run with
`SEEDS=4` it writes the figures of docs/methods/kto.md into the file that RESULT names."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from support.small_runs import run_here
from support.world_models import response_log_probs
from transformers import AutoModelForCausalLM

from trueup.feedback.canonical import write_examples
from trueup.feedback.records import Example, Response
from trueup.sources import source as offline
from trueup.world.generate import examples
from trueup.world.model import world_model_path

pytestmark = [pytest.mark.slow, pytest.mark.world]

SEEDS = int(os.environ.get("SEEDS", "2"))  # four gave the figures of the page
PAIRS, HELD_OUT = 256 if SEEDS == 2 else 512, 512
SETTINGS: dict[str, Any] = {
    "model": "world", "batch_size": 16, "epochs": 1, "learning_rate": 3e-4, "beta": 0.5, "save_every": 10_000,
}  # fmt: skip


def unpaired(pairs: Iterable[Example], label: float) -> list[Example]:
    """The chosen or the rejected response of each pair, with a thumb."""
    found = []
    for pair in pairs:
        (compared,) = pair.comparisons
        content = pair.responses[compared.better if label else compared.worse].content
        found.append(Example(pair.prompt, (Response(content, label=label),)))
    return found


@torch.no_grad()
def log_probs(model: Any, given: Sequence[Example]) -> np.ndarray:
    """Nats of each example's response."""
    return response_log_probs(model, given)[0].double().numpy()


def auc(high: np.ndarray, low: np.ndarray) -> float:
    """How often a value of the first is above one of the second, ties counting half."""
    return float(mannwhitneyu(high, low).statistic) / (len(high) * len(low))


@pytest.mark.many
def test_sorted_and_shuffled_files_give_the_same_quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = examples("pairs", count=PAIRS + HELD_OUT, seed=7, noise=0.05)
    training, held_out = made[:PAIRS], made[PAIRS:]
    good, bad = unpaired(held_out, 1.0), unpaired(held_out, 0.0)
    start = AutoModelForCausalLM.from_pretrained(world_model_path())
    before = [log_probs(start, side) for side in (good, bad)]

    def trained(rows: list[Example], name: str, seed: int) -> float:
        """The AUC of beta rho on held-out responses after a run."""
        data, output = tmp_path / f"{name}.jsonl", tmp_path / name
        write_examples(data, rows)
        run_here("kto", {**SETTINGS, "data": [str(data)], "output": str(output), "seed": seed})
        model = AutoModelForCausalLM.from_pretrained(output / "model")
        high, low = (log_probs(model, side) - old for side, old in zip((good, bad), before, strict=True))
        return auc(high, low)

    ordered = unpaired(training, 1.0) + unpaired(training, 0.0)  # all thumbs up before all thumbs down
    found: dict[str, list[float]] = {"sorted": [], "shuffled": []}
    for seed in range(SEEDS):
        shuffled = Random(seed).sample(ordered, len(ordered))
        found["sorted"].append(trained(ordered, f"sorted-{seed}", seed))
        found["shuffled"].append(trained(shuffled, f"shuffled-{seed}", seed))
    difference = fmean(found["sorted"]) - fmean(found["shuffled"])
    error = ((stdev(found["sorted"]) ** 2 + stdev(found["shuffled"]) ** 2) / SEEDS) ** 0.5
    if result := os.environ.get("RESULT"):
        with monkeypatch.context() as broken:
            broken.setattr(offline, "order", lambda seed, epoch, size: tuple(range(size)))
            broken.setattr(offline, "stratified", lambda places, strata: tuple(places))
            unordered = trained(ordered, "unordered", 0)
        means = {name: fmean(values) for name, values in found.items()}
        figures = {"runs": found, "means": means, "difference": difference, "standard error": error}
        command = f"SEEDS={SEEDS} RESULT={result} pytest -m many tests/training/{Path(__file__).name}"
        told = {"command": command, "pairs": PAIRS, "settings": SETTINGS}
        Path(result).write_text(json.dumps({**told, **figures, "in the order of the file": unordered}, indent=1) + "\n")
    assert abs(difference) < 0.04 and error < 0.03
    assert min(*found["sorted"], *found["shuffled"]) > 0.65
