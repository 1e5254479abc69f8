"""Freeze what TRL's reward trainer computes: `python tests/parity/freeze_reward.py` writes reward.json beside it.

TRL's RewardTrainer tokenises and collates made-up texts and computes its loss, in float32 on one thread, with a toy
Llama under a scalar head. Kept are the scores, their gradients and those of the weights.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
}  # before the libraries
sys.path.insert(0, str(Path(__file__).parents[1]))

import random

import torch
import transformers
import trl
import typer
from datasets import Dataset
from parity import freeze_trl
from parity.frozen import FOLDER, write_cases
from parity.reward_network import reward_network
from support.tiny_models import char_tokenizer

BATCH = freeze_trl.BATCH
CASES: tuple[tuple[dict[str, Any], bool], ...] = (
    ({}, False),
    ({"center_rewards_coefficient": 0.05}, False),
    ({}, True),
    ({"center_rewards_coefficient": 0.05}, True),
)
"""TRL's settings, and whether the rows have a margin of their own."""
METRICS = ("min_reward", "mean_reward", "max_reward", "accuracy", "margin")


def pairs(margins: bool) -> Dataset:
    rows = freeze_trl.pairs().to_dict()
    if margins:
        chance = random.Random(7)
        rows["margin"] = [round(chance.uniform(0, 3), 2) for _ in rows["prompt"]]
    return Dataset.from_dict(rows)


def trainer_of(settings: dict[str, Any], margins: bool, seed: int, folder: str) -> Any:
    arguments = freeze_trl.arguments(folder)
    del arguments["beta"]
    return trl.RewardTrainer(
        model=reward_network(seed),
        args=trl.RewardConfig(**arguments, **settings),
        train_dataset=pairs(margins),
        processing_class=char_tokenizer(),
    )


def case(settings: dict[str, Any], margins: bool, seed: int, start: int, folder: str) -> dict[str, Any]:
    trainer = trainer_of(settings, margins, seed, folder)
    inputs = trainer.data_collator([trainer.train_dataset[start + number] for number in range(BATCH)])
    rows = [
        ids[mask == 1].tolist()
        for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    trainer.model.train().zero_grad()
    margin = inputs["margin"].tolist() if "margin" in inputs else None
    loss, outputs = trainer.compute_loss(trainer.model, inputs, return_outputs=True)
    outputs.logits.retain_grad()
    loss.backward()
    return {
        "seed": seed,
        "settings": settings,
        "rows": rows,
        "margin": None if margin is None else [round(value, 2) for value in margin],
        "scores": [freeze_trl.number_of(value) for value in outputs.logits[:, 0]],
        "loss": freeze_trl.number_of(loss),
        "gradient": [freeze_trl.number_of(value) for value in outputs.logits.grad[:, 0]],
        "parameters": freeze_trl.of_parameters(trainer.model),
        "metrics": {name: trainer._metrics["train"][name][0] for name in METRICS},
    }


def freeze(path: Annotated[Path, typer.Argument()] = FOLDER / "reward.json") -> None:
    """Write TRL's inputs and outputs to PATH."""
    torch.set_num_threads(1)
    facts = {
        "trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
        "made_by": "tests/parity/freeze_reward.py",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        made = [
            case(settings, margins, seed, start, folder)
            for seed in freeze_trl.SEEDS
            for start in (0, BATCH)
            for settings, margins in CASES
        ]
    write_cases(path, facts, Reward=made)


if __name__ == "__main__":
    typer.run(freeze)
