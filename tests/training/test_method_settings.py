"""Runs of methods whose settings choose another loss, view or reference than their defaults."""

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from support.small_runs import metrics_of, run_here, settings, write_feedback

from trueup.errors import InputError

MOVING = {"reference.kind": "trust-region", "reference.alpha": 0.5, "reference.every": 4}


def run(method: str, model: Path, folder: Path, **more: Any) -> list[dict[str, Any]]:
    data = write_feedback(folder, 32, easy=True)
    data["demonstrated"] = folder / "demonstrated.jsonl"
    said = [{"content": " yes"}, {"content": " no"}, {"content": " yes!", "demonstration": True}]
    judged = {"responses": said, "comparisons": [{"better": 0, "worse": 1}]}
    rows = [{"prompt": f"say {number}:", **judged} for number in range(32)]
    data["demonstrated"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    if "data" in more:
        more["data"] = [str(data[more["data"]])]
    common: dict[str, Any] = {"epochs": None, "steps": 16, "learning_rate": 1e-2, "save_every": 100}
    run_here(method, {**settings(method, model, data, folder / "run", **common), **more})
    return metrics_of(folder / "run")


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("dpo", {"label_smoothing": 0.1}),
        ("ipo", {"per_token": True}),
        ("slic", MOVING),
        ("robust-dpo", MOVING),
        ("slic-hf", {"target": "demonstration", "data": "demonstrated"}),
        ("slic-hf", {"margin": 3.0, "regularization": 0.0}),
        ("unlikelihood", {"ascent": True, "steps": 40}),
        ("unlikelihood", {"weight": 0.5, "data": "mixed"}),
        ("rrhf", {"normalize": "padded"}),
    ],
)
def test_it_learns(method: str, more: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    lines = run(method, tiny_model, tmp_path, **more)
    found = [line["loss"] for line in lines]
    assert all(math.isfinite(loss) for loss in found)
    assert fmean(found[-3:]) < found[0] - 0.05 * abs(found[0])
    moved = [line["step"] for line in lines if line["reference/moved"]]
    assert moved == (list(range(4, len(found) + 1, 4)) if "reference.kind" in more else [])


def test_the_demonstration_is_what_is_imitated(tiny_model: Path, tmp_path: Path) -> None:
    """Beside the same pairs: the likelihood of the demonstration rises where it is the target."""
    more = {"target": "demonstration", "data": "demonstrated", "regularization": 1.0, "steps": 40}
    lines = run("slic-hf", tiny_model, tmp_path, **more)
    assert lines[-1]["loss/sft"] < 0.2 * lines[0]["loss/sft"]
    # The chosen response is a beginning of the demonstration, and is only asked to beat the rejected one.
    assert lines[-1]["rewards/accuracies"] == 1.0
    assert -lines[-1]["logps/chosen"] > 2 * lines[-1]["loss/sft"]


def test_pairs_without_a_demonstration_are_no_use_to_that_target(tiny_model: Path, tmp_path: Path) -> None:
    message = "no pairs with demonstration can be made of that .*32 for no demonstration beside the pairs"
    with pytest.raises(InputError, match=message):
        run("slic-hf", tiny_model, tmp_path, target="demonstration")


def test_dividing_by_the_padded_length_is_another_loss(tiny_model: Path, tmp_path: Path) -> None:
    """Means over a group's padded length are smaller than those over a response, and so is the sum imitated."""
    first = []
    for normalize in ("response", "padded"):
        (tmp_path / normalize).mkdir()
        first.append(run("rrhf", tiny_model, tmp_path / normalize, normalize=normalize, steps=1)[0])
    by_response, padded = first
    assert by_response["loss/sft"] == pytest.approx(-by_response["logps/chosen"], rel=1e-6)
    # " yes" and " no no" of characters, each with its end, behind "<bos>say red 0:" and the like.
    longest = len(" no no") + 1
    prompts = [len(f"say {word} {number}:") + 1 for word in ("red", "stone") for number in (0, 31)]
    ratio = by_response["loss/sft"] / padded["loss/sft"]
    assert min(prompts) + longest < ratio < max(prompts) + longest
