"""A whole run of a reward model: what it learns, what it leaves, and that others read it alike."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from support.small_runs import metrics_of, model_bytes, run_here, settings, write_feedback
from support.tiny_reward_models import library_scores, save_causal, scores_of
from transformers import AutoTokenizer

from trueup.annotators.local import load_likelihood_annotator, load_reward_annotator
from trueup.errors import InputError, NumericsError
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Example
from trueup.models.tokenizer import quiet_library
from trueup.settings.annotator_kinds import LikelihoodAnnotator, RewardAnnotator

MORE = {"batch_size": 4, "epochs": 4, "eval_fraction": 0.25}


def run(model: Path, folder: Path, name: str = "run", **more: Any) -> Path:
    data = write_feedback(folder, easy=True)
    run_here("reward-model", settings("reward-model", model, data, folder / name, **{**MORE, **more}))
    return folder / name


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with nothing but these settings, beside its data; no test changes it."""
    return run(tiny_model, tmp_path_factory.mktemp("trained"))


def texts(folder: Path) -> list[str]:
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    return [row["prompt"] + row[side] + "<eos>" for row in rows for side in ("chosen", "rejected")]


def annotated(folder: Path, model: Path) -> list[float]:
    examples = read_feedback([str(folder / "pairs.jsonl")]).examples
    made = load_reward_annotator(RewardAnnotator(str(model)), device="cpu").annotate(examples).examples
    return [float(one.score or 0) for each in made if isinstance(each, Example) for one in each.responses]


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
def test_what_it_learned_is_read_alike_by_the_library_and_by_the_annotator(name: str, tmp_path: Path) -> None:
    model = save_causal(tmp_path / "m", name)
    output = run(model, tmp_path, learning_rate=1e-3)
    last = metrics_of(output)[-1]
    assert last["eval_rewards/accuracies"] == 1.0
    scores = library_scores(output / "model", texts(tmp_path))
    assert all(chosen > rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True))
    assert annotated(tmp_path, output / "model") == pytest.approx(scores, abs=1e-4)
    padded = library_scores(output / "model", texts(tmp_path), together=True)
    assert padded == pytest.approx(scores, abs=1e-4)


def test_an_adapter_with_its_head_is_read_alike(tiny_model: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForSequenceClassification

    output = run(tiny_model, tmp_path, **{"lora.rank": 4, "lora.dropout": 0.2, "learning_rate": 3e-2})
    last = metrics_of(output)[-1]
    assert last["eval_rewards/accuracies"] == 1.0
    kept = json.loads((output / "model" / "reward.json").read_text())
    assert kept["mean"] == pytest.approx(last["eval_rewards/mean"])  # both without dropout
    assert not (output / "model" / "model.safetensors").exists()
    with quiet_library():  # the library says that the head is not in the base model's weights
        network = AutoPeftModelForSequenceClassification.from_pretrained(output / "model", num_labels=1)
    network.config.pad_token_id = 0
    scores = scores_of(network, AutoTokenizer.from_pretrained(output / "model"), texts(tmp_path))
    assert annotated(tmp_path, output / "model") == pytest.approx(scores, abs=1e-4)
    assert all(chosen > rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True))


def test_what_a_run_leaves(trained: Path) -> None:
    output = trained
    calibration = json.loads((output / "calibration.json").read_text())
    assert (calibration["pairs"], calibration["prompts"]) == (6, 6)
    assert calibration["accuracy"]["value"] == metrics_of(output)[-1]["eval_rewards/accuracies"] == 1.0
    kept = json.loads((output / "model" / "reward.json").read_text())
    last = metrics_of(output)[-1]
    assert kept["measured_on"] == "held-out"
    assert (kept["responses"], kept["pairs"], kept["accuracy"]) == (12, 6, 1.0)
    assert kept["mean"] == pytest.approx(last["eval_rewards/mean"])
    square = last["eval_rewards/mean_square"] - last["eval_rewards/mean"] ** 2
    assert kept["std"] == pytest.approx((square * 12 / 11) ** 0.5, rel=1e-5)
    _, head, text = (output / "model" / "README.md").read_text().split("---\n", 2)
    data = yaml.safe_load(head)
    assert (data["pipeline_tag"], data["library_name"]) == ("text-classification", "transformers")
    assert "A reward model made of" in text and "aligned with" not in text
    assert "accuracy on 6 held-out pairs: 1.000" in text and "| sure | pairs |" in text
    assert f"scores of 12 responses to held-out prompts: mean {kept['mean']:.4g}" in text


def test_without_held_out_pairs_nothing_is_said_of_its_calibration(tiny_model: Path, tmp_path: Path) -> None:
    output = run(tiny_model, tmp_path, eval_fraction=0.0, epochs=1)
    assert not (output / "calibration.json").exists()
    kept = json.loads((output / "model" / "reward.json").read_text())
    assert (kept["measured_on"], kept["responses"]) == ("training", 48)
    text = (output / "model" / "README.md").read_text()
    assert "accuracy on 24 training pairs" in text and "| sure |" not in text


def test_training_goes_on_with_a_reward_model(trained: Path, tmp_path: Path) -> None:
    """With its head as it is: the first loss of the second run is far below ln 2."""
    second = run(trained / "model", tmp_path, "second", learning_rate=1e-6, epochs=0.5)
    losses = [metrics_of(output)[0]["loss"] for output in (trained, second)]
    assert losses[0] > 0.5 and losses[1] < 0.1


def test_the_head_is_the_seed_s(trained: Path, tiny_model: Path, tmp_path: Path) -> None:
    again = run(tiny_model, tmp_path)
    assert metrics_of(trained) == metrics_of(again) and model_bytes(trained) == model_bytes(again)
    other = run(tiny_model, tmp_path, "other", seed=2, epochs=0.2)
    assert metrics_of(trained)[0]["loss"] != metrics_of(other)[0]["loss"]


def test_settings_arrive_in_the_loss(tiny_model: Path, tmp_path: Path) -> None:
    """Of the first step, before anything moved: centring adds in proportion, a wide margin all it lacks."""
    chosen = {
        "plain": {"centring": 0.0}, "a": {"centring": 0.1}, "b": {"centring": 0.5}, "wide": {"margin": 6.0},
    }  # fmt: skip
    more = {"seed": 5, "eval_fraction": 0.0, "epochs": 0.2, "centring": 0.0}
    outputs = {name: run(tiny_model, tmp_path, name, **{**more, **one}) for name, one in chosen.items()}
    loss = {name: metrics_of(output)[0]["loss"] for name, output in outputs.items()}
    assert loss["b"] - loss["plain"] == pytest.approx(5 * (loss["a"] - loss["plain"]), rel=1e-3)
    assert loss["b"] > loss["plain"] + 1e-3
    assert loss["wide"] == pytest.approx(6.0 - metrics_of(outputs["wide"])[0]["rewards/margins"], abs=0.05)


def test_a_score_that_is_not_finite_ends_the_run_and_names_rows(trained: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(trained / "model", tmp_path / "m"))
    weights = load_file(model / "model.safetensors")
    weights["score.weight"][0, 0] = 3e38
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises((NumericsError, InputError)) as raised:
        run(model, tmp_path, "second")
    assert "\n" not in str(raised.value)


def test_a_reward_model_is_not_aligned(trained: Path, tmp_path: Path) -> None:
    values = settings("dpo", trained / "model", write_feedback(tmp_path), tmp_path / "dpo")
    with pytest.raises(InputError, match="such as a reward model, not a causal language model"):
        run_here("dpo", values)
    assert not (tmp_path / "dpo").exists()


def test_the_head_is_not_trained_in_lower_precision(tiny_model: Path, tmp_path: Path) -> None:
    output = run(tiny_model, tmp_path, precision="bf16", learning_rate=1e-5)
    assert load_file(output / "model" / "model.safetensors")["score.weight"].dtype == torch.float32
    assert len({line["loss"] for line in metrics_of(output) if "loss" in line}) > 10


def test_a_policy_of_rrhf_is_a_reward_model(tiny_model: Path, tmp_path: Path) -> None:
    """Yuan et al., Table 5: by its own likelihood per token it prefers what it was trained to prefer."""
    data = write_feedback(tmp_path, easy=True)
    rows = [json.loads(line) for line in data["rankings"].read_text().splitlines()]
    turned = [{**row, "scores": [-score for score in row["scores"]]} for row in rows]  # not what it says anyway
    data["rankings"].write_text("".join(json.dumps(row) + "\n" for row in turned))
    run_here("rrhf", settings("rrhf", tiny_model, data, tmp_path / "rrhf", epochs=4))
    examples = read_feedback([str(data["pairs"])]).examples

    def accuracy(model: Path) -> float:
        made = load_likelihood_annotator(LikelihoodAnnotator(str(model)), device="cpu").annotate(examples).examples
        right = [one.responses[0].score < one.responses[1].score for one in made]  # type: ignore[union-attr,operator]
        return sum(right) / len(right)

    assert accuracy(tmp_path / "rrhf" / "model") == 1.0
    assert accuracy(tiny_model) < 0.5
