"""Freeze what TRL computes: `python benchmarks/parity/freeze_trl.py` writes trl.json into tests/parity. TRL's own
trainers tokenise and collate made-up texts and compute their loss, in float32 on one thread, with a toy Llama for the
policy and another one for the reference, or with one under a scalar head. The models are only watched: the log-
probabilities or scores that TRL makes are kept and, after the backward pass, their gradients. Only the toys are the
project's."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

# Before any of the libraries is imported.
os.environ |= {
    "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
}  # fmt: skip
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import random

import torch
import transformers
import trl
import typer
from datasets import Dataset
from support.tiny_models import char_tokenizer, toy_network
from support.tiny_reward_models import reward_network
from trl.experimental import cpo, orpo

FROZEN = Path(__file__).parents[2] / "tests/parity/trl.json"
BETA = 0.1
SEEDS = (0, 1)
"""Of the two toy models. Each is once the policy, so that the estimate of a KL is once below 0 and clamped."""
BATCH = 5
DPO_CASES: tuple[dict[str, Any], ...] = (
    {"loss_type": "sigmoid"}, {"loss_type": "sigmoid", "label_smoothing": 0.1},
    {"loss_type": "robust", "label_smoothing": 0.1}, {"loss_type": "ipo"}, {"loss_type": "hinge"},
    {"loss_type": "sft"}, {"loss_type": "sigmoid_norm"},
    {"loss_type": "sigmoid", "f_divergence_type": "forward_kl"},
    {"loss_type": "sigmoid", "f_divergence_type": "js_divergence"},
    {"loss_type": "sigmoid", "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
    {"loss_type": "sigmoid", "ld_alpha": 0.4}, {"loss_type": "sigmoid", "use_weighting": True},
    {"loss_type": "exo_pair", "label_smoothing": 0.001}, {"loss_type": "nca_pair"}, {"loss_type": "bco_pair"},
    {"loss_type": "sppo_hard"}, {"loss_type": "apo_zero"}, {"loss_type": "apo_down"},
)  # fmt: skip
KTO_CASES: tuple[dict[str, Any], ...] = ({}, {"desirable_weight": 1.5, "undesirable_weight": 0.75})
FREE_CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "CPO": (
        {"loss_type": "sigmoid", "cpo_alpha": 0.0},
        {"loss_type": "sigmoid", "cpo_alpha": 0.7},
        {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 0.5},
        {"loss_type": "simpo", "cpo_alpha": 0.7, "simpo_gamma": 0.5},
    ),
    "ORPO": ({},),
}
"""Of the trainers without a reference."""
LABELS = (True, False, False, True, False) + BATCH * (True,)
"""Of two batches: a mixed one, and one without undesirable responses."""
METRICS = ("rewards/", "logps/", "kl")
REWARD_CASES: tuple[tuple[dict[str, Any], bool], ...] = (
    ({}, False), ({"center_rewards_coefficient": 0.05}, False), ({}, True),
    ({"center_rewards_coefficient": 0.05}, True),
)  # fmt: skip
"""TRL's settings, and whether the rows have a margin of their own."""
REWARD_METRICS = ("min_reward", "mean_reward", "max_reward", "accuracy", "margin")


class Watched:
    """A model that keeps the log-probabilities it returns; [N, L - 1], 0 outside of the completions."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.kept: list[torch.Tensor] = []

    def __call__(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs)
        if outputs.log_probs.requires_grad:
            outputs.log_probs.retain_grad()
        self.kept.append(outputs.log_probs)
        return outputs


def texts(count: int, seed: int) -> list[str]:
    """Made-up texts of 2 to 9 characters."""
    chance = random.Random(seed)
    return ["".join(chance.choices("abcdefgh ", k=chance.randint(2, 9))) for _ in range(count)]


def pairs() -> Dataset:
    columns = {name: texts(2 * BATCH, seed) for seed, name in enumerate(("prompt", "chosen", "rejected"))}
    return Dataset.from_dict(columns)


def points() -> Dataset:
    columns = {name: texts(2 * BATCH, 10 + seed) for seed, name in enumerate(("prompt", "completion"))}
    return Dataset.from_dict({**columns, "label": list(LABELS)})


def arguments(folder: str) -> dict[str, Any]:
    return dict(
        output_dir=folder, per_device_train_batch_size=BATCH, beta=BETA, use_cpu=True, bf16=False,
        gradient_checkpointing=False, report_to="none", disable_tqdm=True,
    )  # fmt: skip


def network(seed: int) -> Any:
    return toy_network("llama", seed, vocab_size=len(char_tokenizer()))


def trainer_of(kind: str, settings: dict[str, Any], seeds: tuple[int, int], folder: str) -> Any:
    """A trainer of TRL with the settings of a case, and everything else as TRL has it."""
    makers: dict[str, tuple[Any, Any, Any]] = {
        "DPO": (trl.DPOTrainer, trl.DPOConfig, pairs),
        "KTO": (trl.KTOTrainer, trl.KTOConfig, points),
    }
    trainer_class, config_class, data = makers[kind]
    return trainer_class(
        model=network(seeds[0]), ref_model=network(seeds[1]),
        args=config_class(**arguments(folder), **settings), train_dataset=data(),
        processing_class=char_tokenizer(),
    )  # fmt: skip


def by_row(value_NL: torch.Tensor, completion_mask_NL: torch.Tensor) -> list[list[float]]:
    """The values of the completions' tokens, row by row."""
    scored_NL = completion_mask_NL[:, 1:].bool()
    return [
        [number_of(value) for value in row[scored]] for row, scored in zip(value_NL.detach(), scored_NL, strict=True)
    ]


def number_of(value: torch.Tensor) -> float:
    """A float32 in the nine digits that tell it from every other."""
    return float(f"{value.item():.9g}")


def rows_of(inputs: dict[str, torch.Tensor], prefix: str = "") -> list[dict[str, Any]]:
    """Token ids of each row of a collated batch."""
    ids, real, scored = (inputs[f"{prefix}{name}"] for name in ("input_ids", "attention_mask", "completion_mask"))
    return [
        {"prompt": row[(here == 1) & (mask == 0)].tolist(), "response": row[(here == 1) & (mask == 1)].tolist()}
        for row, here, mask in zip(ids, real, scored, strict=True)
    ]


def of_parameters(model: Any) -> dict[str, list[float]]:
    """Of each parameter's gradient, its length and its product with the parameter."""
    return {
        name: [number_of(value.grad.norm()), number_of((value.grad * value.detach()).sum())]
        for name, value in model.named_parameters()
    }


def case(trainer: Any, settings: dict[str, Any], start: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The batch that begins at row `start`, and what the trainer makes of it."""
    inputs = trainer.data_collator([trainer.train_dataset[start + number] for number in range(BATCH)])
    trainer.model.train().zero_grad()
    trainer._metrics["train"].clear()
    reference_model, policy = trainer.ref_model, Watched(trainer.model)
    trainer.ref_model = reference = Watched(reference_model)
    loss = trainer.compute_loss(policy, inputs)
    trainer.ref_model = reference_model
    loss.backward()

    batch: dict[str, Any] = {"label": inputs["label"].tolist()} if "label" in inputs else {}
    # KTO computes its mismatched completions first, without a gradient.
    for prefix, at in (("KL_", 0), ("", -1)) if "KL_input_ids" in inputs else (("", -1),):
        scored = inputs[f"{prefix}completion_mask"]
        columns = {"policy": policy.kept[at], "reference": reference.kept[at]}
        values = {name: by_row(column, scored) for name, column in columns.items()}
        batch[f"{prefix}rows"] = [
            {**row, **{name: column[number] for name, column in values.items()}}
            for number, row in enumerate(rows_of(inputs, prefix))
        ]
    gradient = policy.kept[-1].grad
    assert gradient is not None
    found = {
        "settings": {"beta": BETA, **settings}, "loss": number_of(loss),
        "gradient": by_row(gradient, inputs["completion_mask"]), "parameters": of_parameters(trainer.model),
        "metrics": {name: values[0] for name, values in trainer._metrics["train"].items() if name.startswith(METRICS)},
    }  # fmt: skip
    return batch, found


def graded_pairs(margins: bool) -> Dataset:
    rows = pairs().to_dict()
    if margins:
        chance = random.Random(7)
        rows["margin"] = [round(chance.uniform(0, 3), 2) for _ in rows["prompt"]]
    return Dataset.from_dict(rows)


def reward_trainer_of(settings: dict[str, Any], margins: bool, seed: int, folder: str) -> Any:
    given = arguments(folder)
    del given["beta"]
    return trl.RewardTrainer(
        model=reward_network(seed), args=trl.RewardConfig(**given, **settings),
        train_dataset=graded_pairs(margins), processing_class=char_tokenizer(),
    )  # fmt: skip


def reward_case(settings: dict[str, Any], margins: bool, seed: int, start: int, folder: str) -> dict[str, Any]:
    trainer = reward_trainer_of(settings, margins, seed, folder)
    inputs = trainer.data_collator([trainer.train_dataset[start + number] for number in range(BATCH)])
    rows = [ids[mask == 1].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    trainer.model.train().zero_grad()
    margin = inputs["margin"].tolist() if "margin" in inputs else None
    loss, outputs = trainer.compute_loss(trainer.model, inputs, return_outputs=True)
    outputs.logits.retain_grad()
    loss.backward()
    return {
        "seed": seed, "settings": settings, "rows": rows,
        "margin": None if margin is None else [round(value, 2) for value in margin],
        "scores": [number_of(value) for value in outputs.logits[:, 0]], "loss": number_of(loss),
        "gradient": [number_of(value) for value in outputs.logits.grad[:, 0]],
        "parameters": of_parameters(trainer.model),
        "metrics": {name: trainer._metrics["train"][name][0] for name in REWARD_METRICS},
    }  # fmt: skip


def free_case(trainer: Any, settings: dict[str, Any], start: int) -> tuple[Any, dict[str, Any]]:
    """As `case`, of a trainer whose model has no reference and gives logits."""
    inputs = trainer.data_collator([trainer.train_dataset[start + number] for number in range(BATCH)])
    trainer.model.train().zero_grad()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    rows = [
        {"prompt": ids[(real == 1) & (label == -100)].tolist(), "response": ids[label != -100].tolist()}
        for side in ("chosen", "rejected")
        for ids, real, label in zip(
            *(inputs[f"{side}_{name}"] for name in ("input_ids", "attention_mask", "labels")), strict=True
        )
    ]
    found = {
        "settings": {"beta": BETA, **settings},
        "loss": number_of(loss),
        "parameters": of_parameters(trainer.model),
        "metrics": {
            name: values[-1]
            for name, values in trainer._stored_metrics["train"].items()
            if name.startswith(("rewards/", "logps/"))
        },
    }
    return {"rows": rows}, found


def free_batches(kind: str, folder: str) -> list[dict[str, Any]]:
    """Two batches of a trainer without a reference, each with all its cases."""
    trainer_class, config_class = {"CPO": (cpo.CPOTrainer, cpo.CPOConfig), "ORPO": (orpo.ORPOTrainer, orpo.ORPOConfig)}[
        kind
    ]
    made: list[dict[str, Any]] = []
    for seed, start in zip(SEEDS, (0, BATCH), strict=True):
        found = [
            free_case(
                trainer_class(
                    model=network(seed),
                    args=config_class(**arguments(folder), **settings),
                    train_dataset=pairs(),
                    processing_class=char_tokenizer(),
                ),
                settings,
                start,
            )
            for settings in FREE_CASES[kind]
        ]
        made.append({"policy_seed": seed, **found[0][0], "cases": [each for _, each in found]})
    return made


def batches(kind: str, all_settings: tuple[dict[str, Any], ...], folder: str) -> list[dict[str, Any]]:
    """Two batches under either order of the models, each with all its cases."""
    made = []
    for seeds in (SEEDS, SEEDS[::-1]):
        trainers = [trainer_of(kind, settings, seeds, folder) for settings in all_settings]
        for start in (0, BATCH):
            found = [case(trainer, settings, start) for trainer, settings in zip(trainers, all_settings, strict=True)]
            assert all(batch == found[0][0] for batch, _ in found)
            head = {"policy_seed": seeds[0], "reference_seed": seeds[1], **found[0][0]}
            made.append({**head, "cases": [each for _, each in found]})
    return made


def written(made: dict[str, list[dict[str, Any]]], maker: str) -> str:
    """The text of a frozen file: one case a line, so that one that changes is one line that changes."""
    versions = {
        "trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
        "made_by": f"benchmarks/parity/{maker}",
    }  # fmt: skip
    parts = [f'"versions": {json.dumps(versions)}']
    for name, cases in made.items():
        lines = ",\n".join(json.dumps(case, allow_nan=False) for case in cases)
        parts.append(f'"{name}": [\n{lines}\n]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def freeze(path: Annotated[Path, typer.Argument()] = FROZEN) -> None:
    """Write TRL's inputs and outputs to PATH."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = {"DPO": batches("DPO", DPO_CASES, folder), "KTO": batches("KTO", KTO_CASES, folder)}
        made["Reward"] = [
            reward_case(settings, margins, seed, start, folder)
            for seed in SEEDS
            for start in (0, BATCH)
            for settings, margins in REWARD_CASES
        ]
        made |= {kind: free_batches(kind, folder) for kind in FREE_CASES}
    path.write_text(written(made, "freeze_trl.py"), encoding="utf-8")


if __name__ == "__main__":
    typer.run(freeze)
