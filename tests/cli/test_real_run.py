"""Real models and real feedback, from the command line; skipped where they are not beside the checkout."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from trueup.cli.app import run

Shared = Callable[[str], Path]
LN2 = 0.693147


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def train(*arguments: object) -> None:
    assert run(["train", *map(str, arguments)]) == 0


@pytest.mark.parametrize("model", ["tinystories-656k-bf16", pytest.param("stories260K", marks=pytest.mark.many)])
def test_dpo_on_hh(model: str, shared: Shared, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line of the README: the first loss is ln 2, every row is accounted for, the model loads."""
    data = shared("data/hh_rlhf/harmless-base-test.jsonl.gz")
    output = tmp_path / "run"
    train(
        *("dpo", "--model", shared(f"models/{model}"), "--data", data, "--output", output),
        *("--steps", 3, "--batch-size", 4, "--max-length", 256, "--learning-rate", 1e-4),
    )
    said = capsys.readouterr().err
    assert "HH transcripts, 2312 rows, 2303 comparisons" in said
    assert "first batch agrees with the policy exactly" in said
    steps = metrics(output)
    assert steps[0]["loss"] == pytest.approx(LN2, abs=1e-6)
    assert steps[0]["rewards/margins"] == 0
    assert {"rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected", "kl"} <= steps[0].keys()
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(output / "model").num_parameters() > 200_000


def test_a_trl_file_with_overrides(shared: Shared, tmp_path: Path) -> None:
    """TR-DPO under LoRA from a TRL YAML file, as in the issue tracker of many a team."""
    file = tmp_path / "run.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "model_name_or_path": str(shared("models/tinystories-656k-bf16")),
                "dataset_name": str(shared("data/hh_rlhf/helpful-base-test.jsonl.gz")),
                "output_dir": str(tmp_path / "run"),
                **{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4},
                **{"max_length": 256, "learning_rate": "1e-3", "ref_model_sync_steps": 512},
            }
        )
    )
    reference = ("--reference.alpha", 0.6, "--reference.every", 2)
    train("tr-dpo", "--config", file, "--beta", 0.05, *reference, "--lora.rank", 8)
    steps = metrics(tmp_path / "run")
    assert [step["reference/moved"] for step in steps] == [0, 1, 0, 1]
    content = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
    assert content["settings"]["batch_size"] == 4
    assert content["method_settings"] == {
        "sft_weight": 0.0, "beta": 0.05, "reference": {"kind": "trust-region", "alpha": 0.6, "every": 2},
    }  # fmt: skip
    adapter = json.loads((tmp_path / "run" / "model" / "adapter_config.json").read_text())
    assert adapter["r"] == 8
