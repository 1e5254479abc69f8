"""Freeze what TRL's GRPO computes: `python benchmarks/parity/freeze_grpo.py` writes grpo.json into tests/parity. As in
freeze_trl.py. Responses are made up, and TRL's own trainer tokenises and scores them, and makes advantages and a loss
of them."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
import trl
import typer
from datasets import Dataset
from freeze_trl import SEEDS, Watched, arguments, network, number_of, of_parameters, texts, written
from support.tiny_models import char_tokenizer
from trl.trainer.utils import add_fused_lm_head

FROZEN = Path(__file__).parents[2] / "tests/parity/grpo.json"
CASES: tuple[dict[str, Any], ...] = (
    {"loss_type": "grpo"}, {"loss_type": "grpo", "beta": 0.04},
    {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False},
    {"loss_type": "grpo", "epsilon": 0.1, "epsilon_high": 0.4},
    {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.05},
    {"loss_type": "grpo", "scale_rewards": "batch"}, {"loss_type": "grpo", "reward_weights": [1.0, 0.25]},
    {"loss_type": "bnpo"}, {"loss_type": "dapo", "epsilon_high": 0.28},
    {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.04},
)  # fmt: skip
GROUP = 4  # responses to each of two prompts, of at most LONGEST tokens
LONGEST = 10


def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
    """Responses that are made up, every other one with its end."""
    tokenizer = trainer.processing_class
    answers = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts(len(prompts), 30)]
    ended = [ids + [tokenizer.eos_token_id] * (number % 2) for number, ids in enumerate(answers)]
    return {"prompt_ids": [tokenizer(text)["input_ids"] for text in prompts], "completion_ids": ended, "logprobs": None}


def brevity(completions: list[str], **_: Any) -> list[float]:
    return [-0.5 * len(text) for text in completions]


def vowels(completions: list[str], **_: Any) -> list[float]:
    return [float(sum(text.count(one) for one in "ae")) for text in completions]


def trainer_of(settings: dict[str, Any], seeds: tuple[int, int], folder: str) -> Any:
    """A trainer of TRL with the settings of a case. TRL would load its reference by name; this one is given it."""
    given = {**arguments(folder), "per_device_train_batch_size": 2 * GROUP, **settings, "beta": 0.0}
    trainer = trl.GRPOTrainer(
        model=network(seeds[0]), reward_funcs=[brevity, vowels],
        args=trl.GRPOConfig(**given, num_generations=GROUP, max_completion_length=LONGEST),
        train_dataset=Dataset.from_dict({"prompt": texts(2, 20)}), processing_class=char_tokenizer(),
        rollout_func=rollout,
    )  # fmt: skip
    trainer.beta, trainer.ref_model = settings.get("beta", 0.0), network(seeds[1]).eval()
    add_fused_lm_head(trainer.ref_model)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train().zero_grad()
    return trainer


def case(trainer: Any, settings: dict[str, Any], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The round, and what the trainer makes of it where the log-probabilities have moved since it began."""
    inputs = trainer._generate_and_score_completions([row for row in trainer.train_dataset for _ in range(GROUP)])
    ids, scored = inputs["completion_ids"], inputs["completion_mask"].bool()
    width = ids.shape[1]

    def of_rows(value_NL: torch.Tensor) -> list[list[Any]]:
        rows = zip(value_NL.detach()[:, -width:], scored, strict=True)
        number = number_of if value_NL.is_floating_point() else int
        return [[number(value) for value in row[mask]] for row, mask in rows]

    with torch.no_grad():
        policy = Watched(trainer.model)
        trainer._get_per_token_logps_and_entropies(
            policy, torch.cat([inputs["prompt_ids"], ids], dim=1),
            torch.cat([inputs["prompt_mask"], scored.long()], dim=1), width,
        )  # fmt: skip
    before = policy.kept[0][:, -width:]
    moved = 0.3 * torch.randn(before.shape, generator=torch.Generator().manual_seed(seed))
    inputs["old_per_token_logps"] = before + moved
    loss = trainer._compute_loss(policy, inputs)
    loss.backward()
    gradient = policy.kept[-1].grad
    assert gradient is not None
    shown = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
    prompts = zip(inputs["prompt_ids"], inputs["prompt_mask"].bool(), strict=True)
    batch: dict[str, Any] = {
        "prompt": [row[real].tolist() for row, real in prompts], "response": of_rows(ids),
        "policy": of_rows(policy.kept[-1]), "old": of_rows(inputs["old_per_token_logps"]),
        "rewards": [list(pair) for pair in zip(brevity(shown), vowels(shown), strict=True)],
    }  # fmt: skip
    found = {
        "settings": settings, "advantages": [number_of(value) for value in inputs["advantages"]],
        "loss": number_of(loss), "gradient": of_rows(gradient), "parameters": of_parameters(trainer.model),
    }  # fmt: skip
    if trainer.beta:
        found["reference"] = of_rows(inputs["ref_per_token_logps"])
    return batch, found


def batches(folder: str) -> list[dict[str, Any]]:
    """A round under either order of the models, with all cases."""
    made = []
    for seeds in (SEEDS, SEEDS[::-1]):
        found = [case(trainer_of(settings, seeds, folder), settings, seeds[0]) for settings in CASES]
        assert all(batch == found[0][0] for batch, _ in found)
        head = {"policy_seed": seeds[0], "reference_seed": seeds[1], **found[0][0]}
        made.append({**head, "cases": [each for _, each in found]})
    return made


def freeze(path: Annotated[Path, typer.Argument()] = FROZEN) -> None:
    """Write TRL's inputs and outputs to PATH."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path.write_text(written({"GRPO": batches(folder)}, "freeze_grpo.py"), encoding="utf-8")


if __name__ == "__main__":
    typer.run(freeze)
