"""Files of TRL's options and options of its command line, as a run reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.refusals import refused

from trueup.config.resolve import Resolved, resolve
from trueup.display import collected, logger
from trueup.references.choices import Cached, Frozen, TrustRegion
from trueup.settings.annotator_kinds import WorldAnnotator
from trueup.settings.run_settings import LoraSettings

Settle = Callable[..., Resolved]

RECIPE = """\
# A recipe as people write them for `trl dpo --config`.
model_name_or_path: models/sft
torch_dtype: bfloat16
attn_implementation: flash_attention_2
dataset_name: data/pairs.jsonl
dataset_train_split: train_prefs
output_dir: runs/zephyr
bf16: true
beta: 0.01
learning_rate: 5.0e-7
lr_scheduler_type: cosine
warmup_ratio: 0.1
num_train_epochs: 2
max_steps: -1
per_device_train_batch_size: 4
per_device_eval_batch_size: 8
gradient_accumulation_steps: 16
gradient_checkpointing: true
gradient_checkpointing_kwargs: {use_reentrant: false}
max_length: 1536
max_prompt_length: 1024
loss_type: sigmoid
optim: adamw_torch
use_peft: true
lora_r: 128
lora_alpha: 128
lora_dropout: 0.05
lora_target_modules: [q_proj, k_proj]
logging_steps: 10
save_strategy: steps
save_steps: 100
save_total_limit: 1
report_to: [tensorboard, wandb]
push_to_hub: false
hub_model_id:
remove_unused_columns: false
sync_ref_model: true
ref_model_mixup_alpha: 0.9
ref_model_sync_steps: 64
seed: 42
"""


def test_a_recipe_by_value(settle: Settle, yaml: Callable[[str], Path]) -> None:
    with collected(logger) as said:
        resolved = resolve("dpo", config_file=yaml(RECIPE))
    settings = resolved.settings.model_dump(exclude_unset=True, exclude_none=True)
    assert settings == {
        "model": "models/sft", "data": ("data/pairs.jsonl",), "output": "runs/zephyr", "precision": "bf16",
        "learning_rate": 5e-7, "schedule": "cosine", "warmup_ratio": 0.1, "epochs": 2.0, "batch_size": 64,
        "gradient_checkpointing": True, "max_length": 1536, "max_prompt_length": 1024,
        "lora": {"rank": 128, "alpha": 128.0, "dropout": 0.05, "targets": ("q_proj", "k_proj")},
        "log_every": 10, "save_every": 100, "keep_checkpoints": 1, "trackers": ("tensorboard", "wandb"), "seed": 42,
        "optimizer_states": "fp32",
    }  # fmt: skip
    assert dict(resolved.method_settings) == {
        "beta": 0.01, "label_smoothing": 0.0, "per_token": False, "sft_weight": 0.0,
        "reference": TrustRegion(alpha=0.9, every=64),
    }  # fmt: skip
    named = "attn_implementation batch_size dataset_train_split gradient_checkpointing_kwargs "
    named += "per_device_eval_batch_size remove_unused_columns torch_dtype"
    assert sorted(note.partition(" ")[0].rstrip(":") for note in said) == named.split()


HUB = "dataset_name: trl-lib/ultrafeedback_binarized"
APART = "per_device_train_batch_size: 4\ngradient_accumulation_steps: 8\nuse_peft: true\nlora_r: 4\n"
TWICE = "num_train_epochs: 2\nepochs: 2.0\ndataset_name: pairs.jsonl\ndata: [pairs.jsonl]\n"


@pytest.mark.parametrize(
    ("method", "text", "given", "expected"),
    [
        ("ipo", "loss_type: ipo\nbeta: 0.2\nsync_ref_model: true\n", {},
         {"beta": 0.2, "per_token": True, "reference": TrustRegion()}),
        ("ipo", None, {}, {"per_token": False}),
        ("ipo", "loss_type: ipo", {"per_token": "false"}, {"per_token": False}),
        ("robust-dpo", "loss_type: robust\nlabel_smoothing: 0.2\n", {},
         {"beta": 0.1, "label_smoothing": 0.2, "reference": Frozen()}),
        ("dpo", None, {"label_smoothing": "0.1"}, {"label_smoothing": 0.1}),
        ("slic", "loss_type: hinge\nbeta: 0.1", {}, {"beta": 0.1}),
        ("tr-dpo", "loss_type: sigmoid", {}, {"beta": 0.05}),
        ("tr-kto", "loss_type: kto", {}, {"beta": 0.05}),
        ("tr-dpo", None, {"ref_model_mixup_alpha": "0.9", "ref_model_sync_steps": "64"},
         {"reference": TrustRegion(alpha=0.9, every=64)}),
        ("dpo", None, {"sync_ref_model": "true"}, {"reference": TrustRegion()}),
        ("dpo", None, {"sync_ref_model": False}, {"reference": Frozen()}),
        ("ulma", None, {"precompute_ref_log_probs": True}, {"reference": Cached()}),
        ("dpo", TWICE, {}, {"epochs": 2}),
        ("dpo", "num_train_epochs: 2", {"epochs": 5}, {"epochs": 5}),
        ("dpo", "epochs: 2", {"num_train_epochs": 5}, {"epochs": 5}),
        ("dpo", "num_train_epochs: 2", {"max_steps": "5"}, {"steps": 5}),
        ("dpo", HUB, {}, {"data": ("pairs.jsonl",)}),
        ("dpo", APART, {"gradient_accumulation_steps": "2", "lora_r": "6"},
         {"batch_size": 8, "lora": LoraSettings(rank=6)}),
    ],
)  # fmt: skip
def test_in_a_run(
    method: str, text: str | None, given: dict[str, Any], expected: dict[str, Any], settle: Settle
) -> None:
    """Losses of TRL, references that move, names that stand twice or apart, and the command line over the file."""
    resolved = settle(method, text, **given)
    made = dict(resolved.settings) | dict(resolved.method_settings)
    assert {name: made[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("method", "text", "given", "message"),
    [
        ("robust-dpo", None, {"label_smoothing": 0.5}, r"label_smoothing must be less than 0\.5; got 0\.5"),
        ("ipo", "loss_type: ipo\nper_token: false\n", {}, "loss_type and per_token are both given and differ; give"),
        ("tr-dpo", "ref_model_mixup_alpha: 0.5\nreference: {alpha: 0.6}\n", {},
         r"ref_model_mixup_alpha and reference.alpha are both given and differ; give one$"),
        ("tr-dpo", "beta: 0.1\nref_model_mixup_alpha: 8\n", {},
         r"run.yaml:2 ref_model_mixup_alpha: reference.alpha must be at most 1; got 8$"),
        ("dpo", "beta: 0.1\nload_in_8bit: true\n", {}, r"run.yaml:2: load_in_8bit True is not offered"),
        ("dpo", None, {"per_device_train_batchsize": 4},
         "per_device_train_batchsize is not a setting .*; did you mean per_device_train_batch_size?"),
        ("dpo", None, {"wibble": "x"}, "^wibble is not a setting of method dpo or of a run$"),
        ("sft", None, {"pref_beta": 1}, "^pref_beta is not a setting of method sft or of a run$"),
        ("sft", None, {"beta": 0.1}, r"^beta is refused: method sft has no such term; leave it out$"),
    ],
)  # fmt: skip
def test_refused_in_a_run(method: str, text: str | None, given: dict[str, Any], message: str, settle: Settle) -> None:
    with refused(message):
        settle(method, text, **given)


@pytest.mark.parametrize("name", ["cliprange", "vf_coef", "lam", "gamma", "whiten_rewards", "missing_eos_penalty"])
def test_a_term_that_a_method_lacks(settle: Settle, name: str) -> None:
    with refused(rf"^{name} is refused: method dpo has no such term; leave it out$"):
        settle("dpo", **{name: 0.5})
    assert settle("dpo", **{name: "false"}).settings.learning_rate == 1e-6


def test_a_name_of_trl_and_one_of_ours(settle: Settle) -> None:
    settings = settle("oaif", "temperature: 0.7\n", annotator=None, judge="world:proxy").settings
    assert (settings.sampler.temperature, settings.annotator) == (0.7, WorldAnnotator("proxy"))
    with refused(r"temperature and sampler\.temperature are both given and differ; give one"):
        settle("oaif", "temperature: 0.7\nsampler: {temperature: 0.8}\n")
    with refused(r"^reward and annotator are both given"):
        settle("oaif", reward_model_path="rm")
