"""Offline, sampled, replayed and held-out examples come to tokens by one road, which keeps what was fitted."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from support.online_runs import online, replay, write_reward
from support.refusals import refused
from support.small_runs import metrics_of, run_here, settings, write_feedback
from support.tiny_models import char_tokenizer
from training.test_online import LORA

from trueup.feedback.condition import read_condition
from trueup.sources.by_name import examples_named, split
from trueup.training import loop

GIVEN = {"reward_mean": 0.5, "reward_std": 0.2, "ask_for": 1.5, "condition": " score {reward}", "decimals": 1}
"""Nothing is left for conditional alignment to measure over all of the data."""


def write_rows(file: Path, rows: list[dict[str, Any]]) -> list[str]:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(file)]


def scores_of(output: Path) -> list[float]:
    """Standardised, of all that a run gathered."""
    rows = [json.loads(line) for line in (output / "examples.jsonl").read_text().splitlines()]
    given = [one["score"] for row in rows for one in row["responses"]]
    return sorted((score - 0.5) / 0.2 for score in given)


@pytest.mark.parametrize("weights", [{}, LORA])
def test_a_condition_learned_online_goes_with_the_model(
    weights: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    """And with that of a replay, which ends with the same."""
    write_reward(tmp_path)
    values = online(tiny_model, tmp_path, tmp_path / "first", **GIVEN, **weights)
    run_here("ca", values)
    run_here("ca", replay(tiny_model, tmp_path / "first", tmp_path / "second", values))
    low, *_, high = scores_of(tmp_path / "first")
    for output in (tmp_path / "first", tmp_path / "second"):
        found = read_condition(output / "model")
        assert found is not None
        assert (found.words(), found.position, found.mean, found.std) == (" score 1.5", "end", 0.5, 0.2)
        assert (found.lowest, found.highest) == pytest.approx((low, high))
        assert "score 1.5" in (output / "model" / "README.md").read_text()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that runs of this test learn from, as text."""
    prompts: list[str] = []
    original, tokenizer = loop.train_step, char_tokenizer()

    def train_step(policy: Any, reference: Any, method: Any, batches: Any, *arguments: Any, **more: Any) -> Any:
        for batch in batches:
            prompts.extend("".join(tokenizer.convert_ids_to_tokens(group.prompt.tolist())) for group in batch.groups)
        return original(policy, reference, method, batches, *arguments, **more)

    monkeypatch.setattr(loop, "train_step", train_step)
    return prompts


def test_a_model_that_has_a_condition_is_taught_another_alone(
    tiny_model: Path, tmp_path: Path, trained: list[str]
) -> None:
    """What it was trained to be asked with is how it is sampled from, and not what it learns behind."""
    write_reward(tmp_path)
    data = {"points": write_feedback(tmp_path)["rankings"]}
    begun = {**GIVEN, "condition": " was {reward}"}
    run_here("ca", settings("ca", tiny_model, data, tmp_path / "conditional", **begun, epochs=1))
    model = tmp_path / "conditional" / "model"
    values = online(model, tmp_path, tmp_path / "run", **GIVEN)
    for each in (values, replay(model, tmp_path / "run", tmp_path / "again", values)):
        trained.clear()
        run_here("ca", each)
        assert trained
        assert not [prompt for prompt in trained if " was " in prompt or prompt.count(" score ") != 1]


THUMBS = [{"prompt": f"say {word}:", "completion": f" {word}", "label": True} for word in ("red", "blue")]


def test_held_out_feedback_is_not_what_an_online_run_is_fitted_to(tiny_model: Path, tmp_path: Path) -> None:
    """Labels where the run makes labels of scores, and of one kind only: there is nothing wrong with either. But none
    of its prompts may be one of the run's."""
    write_reward(tmp_path)
    held_out = write_rows(tmp_path / "labelled.jsonl", THUMBS)
    values = online(tiny_model, tmp_path, tmp_path / "run", desirable_from=0.5, eval_data=held_out)
    run_here("kto", values)
    run_here("kto", replay(tiny_model, tmp_path / "run", tmp_path / "again", values))
    for name in ("run", "again"):
        (evaluated,) = (line for line in metrics_of(tmp_path / name) if "eval_loss" in line)
        assert evaluated["eval_kl"] != 0
    asked = json.loads((tmp_path / "prompts.jsonl").read_text().splitlines()[3])["prompt"]
    shared = write_rows(tmp_path / "shared.jsonl", [*THUMBS, {**THUMBS[0], "prompt": asked}])
    for begun in (values, replay(tiny_model, tmp_path / "run", tmp_path / "other", values)):
        with refused(r"1 of 3 evaluation examples have a prompt that is also trained on"):
            run_here("kto", {**begun, "eval_data": shared, "output": str(tmp_path / "other")})


def test_held_out_rows_of_the_same_file_take_no_part_in_what_is_fitted(tiny_model: Path, tmp_path: Path) -> None:
    """Mean and standard deviation, the highest and the lowest reward: each is another with the held-out rows."""
    rows = [{"prompt": f"say {number}:", "responses": [" red"], "scores": [float(number**2)]} for number in range(12)]
    data = {"points": Path(write_rows(tmp_path / "scored.jsonl", rows)[0])}
    run_here("ca", settings("ca", tiny_model, data, tmp_path / "run", eval_fraction=0.25, epochs=1))
    training, held_out = split(examples_named([str(data["points"])]).examples, 0.25, seed=1)
    assert len(held_out) == 3
    scores = [one.score for example in training for one in example.responses if one.score is not None]
    mean, std = statistics.fmean(scores), statistics.stdev(scores)
    found = read_condition(tmp_path / "run" / "model")
    assert found is not None
    assert (found.mean, found.std) == pytest.approx((mean, std))
    assert (found.lowest, found.highest) == pytest.approx(((min(scores) - mean) / std, (max(scores) - mean) / std))
