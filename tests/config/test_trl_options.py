"""TRL's names become ours, or are said to have no effect, or are refused with what to do instead."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.refusals import refused

from trueup.config.resolve import Resolved, resolve
from trueup.config.trl_options import TABLE, Translated, handled_names, translate
from trueup.display import collected, logger
from trueup.methods import METHODS
from trueup.references.choices import Cached, Frozen, TrustRegion
from trueup.settings.annotator_settings import RewardAnnotator, WorldAnnotator
from trueup.settings.run_settings import LoraSettings, RunSettings

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
        "model": "models/sft",
        "data": ("data/pairs.jsonl",),
        "output": "runs/zephyr",
        "precision": "bf16",
        "learning_rate": 5e-7,
        "schedule": "cosine",
        "warmup_ratio": 0.1,
        "epochs": 2.0,
        "batch_size": 64,
        "gradient_checkpointing": True,
        "max_length": 1536,
        "max_prompt_length": 1024,
        "lora": {"rank": 128, "alpha": 128.0, "dropout": 0.05, "targets": ("q_proj", "k_proj")},
        "log_every": 10,
        "save_every": 100,
        "keep_checkpoints": 1,
        "trackers": ("tensorboard", "wandb"),
        "seed": 42,
    }
    assert dict(resolved.method_settings) == {
        "beta": 0.01,
        "label_smoothing": 0.0,
        "reference": TrustRegion(alpha=0.9, every=64),
    }
    assert sorted(note.partition(" ")[0].rstrip(":") for note in said) == [
        "attn_implementation",
        "batch_size",
        "dataset_train_split",
        "gradient_checkpointing_kwargs",
        "optim",
        "per_device_eval_batch_size",
        "remove_unused_columns",
        "torch_dtype",
    ]


def translated(method: str = "dpo", **values: Any) -> Translated:
    return translate(values, METHODS[method])


@pytest.mark.parametrize(
    ("method", "values", "settings"),
    [
        ("dpo", {"gradient_accumulation_steps": "4"}, {"batch_size": 32}),
        ("dpo", {"per_device_train_batch_size": "4"}, {"batch_size": 4}),
        ("dpo", {"max_steps": "50", "num_train_epochs": "3"}, {"steps": "50"}),
        ("dpo", {"max_steps": 0}, {}),
        ("dpo", {"warmup_steps": "0.1"}, {"warmup_ratio": 0.1}),
        ("dpo", {"warmup_steps": "10"}, {"warmup_steps": "10"}),
        ("dpo", {"lr_scheduler_type": "constant_with_warmup"}, {"schedule": "constant"}),
        ("dpo", {"bf16": "false"}, {"precision": "fp32"}),
        ("dpo", {"fp16": False, "dtype": "bfloat16"}, {"precision": "bf16"}),
        ("dpo", {"dtype": "float32"}, {}),
        ("dpo", {"bf16": True, "dtype": "float32"}, {"precision": "bf16"}),
        ("dpo", {"activation_checkpointing": True}, {"gradient_checkpointing": True}),
        ("dpo", {"use_cpu": "true"}, {"device": "cpu"}),
        ("dpo", {"use_cpu": False}, {}),
        ("dpo", {"use_peft": False, "lora_r": 8}, {}),
        ("dpo", {"use_peft": "true"}, {"lora": True}),
        ("dpo", {"report_to": "none"}, {"trackers": []}),
        ("dpo", {"report_to": "all"}, {"trackers": ["tensorboard", "wandb", "trackio"]}),
        ("dpo", {"report_to": ["wandb"]}, {"trackers": ["wandb"]}),
        ("dpo", {"eval_strategy": "no", "eval_steps": 5}, {}),
        ("dpo", {"eval_steps": 5}, {"eval_every": 5}),
        ("dpo", {"assistant_only_loss": "true"}, {"turns": "all"}),
        ("dpo", {"assistant_only_loss": False}, {}),
        ("dpo", {"save_strategy": "epoch", "save_steps": 5}, {}),
        ("dpo", {"logging_strategy": "steps", "logging_steps": 5}, {"log_every": 5}),
        ("dpo", {"precompute_ref_log_probs": True}, {"reference.kind": "cached"}),
        ("dpo", {"precompute_ref_log_probs": False}, {}),
        ("dpo", {"sync_ref_model": False, "ref_model_sync_steps": 5}, {}),
        ("dpo", {"loss_type": ["sigmoid"]}, {}),
        (
            "dpo", {"chat_template_path": "t.jinja", "max_seq_length": 8},
            {"chat_template": "t.jinja", "max_length": 8},
        ),
        ("dpo", {"resume_from_checkpoint": False, "push_to_hub": "false", "label_smoothing": "0.0"}, {}),
        ("dpo", {"hub_model_id": None, "loss_type": None}, {}),
        ("ppo", {"max_completion_length": 32, "rloo_k": "4"}, {"sampler.max_new_tokens": 32, "sampler.responses": "4"}),
        ("ppo", {"num_generations": 2, "response_length": 5}, {"sampler.responses": 2, "sampler.max_new_tokens": 5}),
        ("ppo", {"num_ppo_epochs": 4}, {"round_passes": 4}),
        ("ppo", {"num_iterations": 2, "top_p": 0.9}, {"round_passes": 2, "sampler.top_p": 0.9}),
        ("ppo", {"judge": "openai"}, {"annotator": "openai"}),
        ("ppo", {"reward_funcs": ["rewards.py:f"], "reward_weights": [1.0]}, {"reward": "rewards.py:f"}),
        ("ppo", {"use_vllm": False, "vllm_mode": "server"}, {}),
        (
            "ppo", {"use_vllm": "true", "vllm_mode": "server", "vllm_server_base_url": "http://h:1/v1/"},
            {"sampler.engine": "server", "sampler.base_url": "http://h:1/v1"},
        ),
        (
            "ppo", {"use_vllm": True, "vllm_mode": "server", "vllm_server_port": 9, "vllm_server_host": "h"},
            {"sampler.engine": "server", "sampler.base_url": "http://h:9/v1"},
        ),
        ("ppo", {"use_transformers_paged": True}, {}),
        ("ppo", {"use_transformers_continuous_batching": False, "num_mini_batches": "1"}, {}),
        ("ppo", {"cliprange": 0.2, "cliprange_value": 0.3}, {"clip": 0.2, "value_clip": 0.3}),
        ("ppo", {"vf_coef": 0.1, "lam": 0.95}, {"value_weight": 0.1, "gae_lambda": 0.95}),
        ("ppo", {"epsilon": 0.2, "missing_eos_penalty": 1}, {"clip": 0.2, "missing_end_penalty": 1}),
        ("ppo", {"beta": 0.05}, {"kl_coef": 0.05}),
        ("ppo", {"reward_clip_range": [-5, 5]}, {"clip_reward": 5}),
        ("ppo", {"reward_clip_range": "-5,5", "kl_estimator": "k1"}, {"clip_reward": 5}),
        ("ppo", {"normalize_advantages": True, "exp_name": "x"}, {"whiten_advantages": True, "run_name": "x"}),
    ],
)  # fmt: skip
def test_translated(method: str, values: dict[str, Any], settings: dict[str, Any]) -> None:
    assert translated(method, **values).settings == settings


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("dpo", {"fp16": True}, "fp16 is not offered, as its range needs loss scaling: use bf16, or neither"),
        ("dpo", {"torch_dtype": "float16"}, "fp16 is not offered"),
        ("dpo", {"dtype": "int8"}, "dtype must be one of auto, float32, bfloat16; got 'int8'"),
        ("dpo", {"optim": "adafactor"}, "optim 'adafactor' is not offered, only AdamW; to save memory,"),
        ("dpo", {"lr_scheduler_type": "polynomial"}, "lr_scheduler_type must be one of linear, .*; got"),
        ("dpo", {"loss_type": "nll"}, "loss_type nll is not the loss of method dpo: use method sft"),
        ("rrhf", {"loss_type": "sigmoid"}, "not the loss of method rrhf: use method dpo or tr-dpo"),
        ("dpo", {"loss_type": "exo_pair"}, "not the loss of method dpo: `trueup methods` lists what there"),
        ("dpo", {"loss_type": ["sigmoid", "nll"]}, "is not offered: a method has one loss"),
        ("tr-dpo", {"sync_ref_model": False}, "the reference of method tr-dpo always moves; use method dpo"),
        ("sft", {"sync_ref_model": True}, "sync_ref_model is true, but method sft needs no reference"),
        ("tr-dpo", {"precompute_ref_log_probs": True}, "method tr-dpo has a reference that moves; leave it"),
        ("rrhf", {"precompute_ref_log_probs": True}, "method rrhf needs no reference; leave it out"),
        ("dpo", {"precompute_ref_log_probs": True, "sync_ref_model": True}, "contradict each other: each"),
        ("dpo", {"load_in_4bit": "true"}, "load_in_4bit 'true' is not offered: quantized weights are not"),
        ("dpo", {"push_to_hub": True}, "push_to_hub True is not offered: nothing is uploaded"),
        ("dpo", {"report_to": "mlflow"}, "report_to must be one of none, all, .*; got 'mlflow'"),
        ("dpo", {"eval_strategy": "often"}, "eval_strategy must be one of no, steps, epoch; got 'often'"),
        ("dpo", {"resume_from_checkpoint": "runs/x"}, "is not offered: use trueup train METHOD --resume RUN"),
        ("dpo", {"gradient_accumulation_steps": "many"}, "gradient_accumulation_steps must be a whole"),
        ("dpo", {"use_peft": "perhaps"}, "use_peft must be true or false; got 'perhaps'"),
        ("slic", {"label_smoothing": 0.1}, "label_smoothing 0.1 is not offered: give each pair a"),
        ("dpo", {"loss_type": "ipo"}, "loss_type ipo is not the loss of method dpo: use method ipo or"),
        ("dpo", {"loss_type": ["hinge"]}, "loss_type hinge is not the loss of method dpo: use method slic"),
        ("dpo", {"loss_type": "robust"}, "not the loss of method dpo: use method robust-dpo"),
        ("dpo", {"loss_type": "kto"}, "not the loss of method dpo: use method kto or tr-kto$"),
        ("paired-kto", {"loss_type": "kto"}, "not the loss of method paired-kto: use method kto or tr-kto$"),
        ("tr-kto", {"loss_type": "kto_pair"}, "not the loss of method tr-kto: use method paired-kto$"),
        ("tr-kto", {"sync_ref_model": False}, "reference of method tr-kto always moves; use method kto$"),
        ("tr-ipo", {"sync_ref_model": False}, "the reference of method tr-ipo always moves; use method ipo"),
        ("dpo", {"use_dora": True, "fsdp": "full_shard"}, "training runs in one process; use_dora True is"),
        (
            "ppo",
            {"use_vllm": True},
            r"^use_vllm with vllm_mode colocate is not offered: start vllm serve, and",
        ),
        ("ppo", {"use_vllm": True, "vllm_mode": "sever"}, r"^vllm_mode must be one of server, colocate; got"),
        (
            "ppo",
            {"reward_funcs": ["a", "b"]},
            r"^reward_funcs \['a', 'b'\] is not offered: give one; a function",
        ),
        ("ppo", {"reward_weights": [1, 2]}, r"^reward_weights \[1, 2\] is not offered: give one reward"),
        (
            "ppo",
            {"max_new_tokens": 3, "response_length": 4},
            r"max_new_tokens and response_length contradict each",
        ),
        ("ppo", {"num_mini_batches": 4}, r"^num_mini_batches 4 is not offered: give round_prompts, .* and"),
        ("ppo", {"total_episodes": 1000}, r"^total_episodes 1000 is not offered: give epochs, or steps$"),
        ("ppo", {"kl_estimator": "k3"}, r"^kl_estimator 'k3' is not offered"),
        (
            "ppo",
            {"reward_clip_range": [0, 5]},
            r"^reward_clip_range 0 to 5 is not offered: rewards are clipped to",
        ),
        ("ppo", {"reward_clip_range": 5}, r"^reward_clip_range must be two numbers; got 5$"),
        (
            "ppo",
            {"min_p": 0.1, "repetition_penalty": 1.2},
            r"^min_p 0\.1 is not offered.*; repetition_penalty",
        ),
        (
            "ppo",
            {"center_rewards_coefficient": 0.1},
            r"^center_rewards_coefficient is refused: method ppo has no",
        ),
    ],
)
def test_refused(method: str, values: dict[str, Any], message: str) -> None:
    with refused(message):
        translated(method, **values)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"padding_free": True}, "padding_free has no effect: no batch has padding"),
        ({"lora_r": 8}, "lora_r has no effect without use_peft: true"),
        ({"ref_model_mixup_alpha": 0.5}, "ref_model_mixup_alpha has no effect without sync_ref_model: true"),
        ({"max_steps": 5, "num_train_epochs": 1}, "num_train_epochs has no effect: max_steps goes before it"),
        ({"eval_strategy": "epoch"}, "eval_strategy epoch has no effect: give eval_every, a number of steps"),
        ({"gradient_accumulation_steps": 2}, "batch_size is 16: per_device_train_batch_size 8 times"),
    ],
)
def test_said_aloud(values: dict[str, Any], note: str) -> None:
    (said,) = translated(**values).notes
    assert said.startswith(note)


def test_ipo_is_per_token_as_in_trl() -> None:
    for method in ("ipo", "tr-ipo"):
        made = translated(method, loss_type="ipo")
        assert made.settings == {"per_token": True}
        assert made.notes == ("loss_type ipo is taken with per_token true, as in TRL",)
    for method, loss in (("dpo", "sigmoid"), ("tr-dpo", "sigmoid"), ("kto", "kto"), ("tr-kto", "kto")):
        assert translated(method, loss_type=loss) == Translated()


@pytest.mark.parametrize(
    ("method", "loss", "name", "value", "ours"),
    [("slic", "hinge", "beta", 0.1, 0.05), ("robust-dpo", "robust", "label_smoothing", 0.0, 0.1)],
)
class TestDefaultsOfALoss:
    """TRL's default holds where the loss is named as TRL names it and the setting is given nowhere."""

    def test_left_out(
        self, method: str, loss: str, name: str, value: float, ours: float, settle: Settle
    ) -> None:
        with collected(logger) as said:
            made = (settle(method, f"loss_type: {loss}"), settle(method, loss_type=loss))
        assert [dict(resolved.method_settings)[name] for resolved in made] == [value] * 2
        assert said == [f"loss_type {loss} is taken with {name} {value}, as in TRL"] * 2
        assert dict(settle(method).method_settings)[name] == ours

    def test_given(
        self, method: str, loss: str, name: str, value: float, ours: float, settle: Settle
    ) -> None:
        with collected(logger) as said:
            both_in_file = settle(method, f"{name}: 0.3\nloss_type: {loss}\n")
            over_the_file = settle(method, f"loss_type: {loss}", **{name: "0.3"})
            below_the_loss = settle(method, f"{name}: 0.3", loss_type=loss)
        for resolved in (both_in_file, over_the_file, below_the_loss):
            assert dict(resolved.method_settings)[name] == 0.3
        assert said == []


def test_a_moving_reference_keeps_its_own_beta(settle: Settle) -> None:
    assert dict(settle("tr-dpo", "loss_type: sigmoid").method_settings)["beta"] == 0.05
    assert dict(settle("tr-kto", "loss_type: kto").method_settings)["beta"] == 0.05


class TestInARun:
    def test_losses_of_trl_by_value(self, settle: Settle) -> None:
        ipo = settle("ipo", "loss_type: ipo\nbeta: 0.2\nsync_ref_model: true\n").method_settings
        assert dict(ipo) == {"beta": 0.2, "per_token": True, "reference": TrustRegion()}
        assert dict(settle("ipo").method_settings)["per_token"] is False
        assert dict(settle("ipo", "loss_type: ipo", per_token="false").method_settings)["per_token"] is False
        robust = settle("robust-dpo", "loss_type: robust\nlabel_smoothing: 0.2\n").method_settings
        assert dict(robust) == {"beta": 0.1, "label_smoothing": 0.2, "reference": Frozen()}
        assert dict(settle("dpo", label_smoothing="0.1").method_settings)["label_smoothing"] == 0.1
        assert dict(settle("slic", "loss_type: hinge\nbeta: 0.1").method_settings)["beta"] == 0.1
        with refused(r"label_smoothing must be less than 0\.5; got 0\.5"):
            settle("robust-dpo", label_smoothing=0.5)
        with refused("loss_type and per_token are both given and differ; give one"):
            settle("ipo", "loss_type: ipo\nper_token: false\n")

    def test_a_moving_reference_needs_no_switch_where_it_always_moves(self, settle: Settle) -> None:
        resolved = settle("tr-dpo", ref_model_mixup_alpha="0.9", ref_model_sync_steps="64")
        assert dict(resolved.method_settings)["reference"] == TrustRegion(alpha=0.9, every=64)

    def test_dpo_with_a_synced_reference_is_a_trust_region(self, settle: Settle) -> None:
        assert dict(settle("dpo", sync_ref_model="true").method_settings)["reference"] == TrustRegion()
        assert dict(settle("dpo", sync_ref_model=False).method_settings)["reference"] == Frozen()
        assert dict(settle("ulma", precompute_ref_log_probs=True).method_settings)["reference"] == Cached()

    def test_both_names_with_one_meaning(self, settle: Settle) -> None:
        text = "num_train_epochs: 2\nepochs: 2.0\ndataset_name: pairs.jsonl\ndata: [pairs.jsonl]\n"
        assert settle("dpo", text).settings.epochs == 2

    def test_both_names_with_two_meanings(self, settle: Settle) -> None:
        message = r"ref_model_mixup_alpha and reference.alpha are both given and differ; give one$"
        with refused(message):
            settle("tr-dpo", "ref_model_mixup_alpha: 0.5\nreference: {alpha: 0.6}\n")

    def test_the_command_line_goes_over_the_file_under_either_name(self, settle: Settle) -> None:
        assert settle("dpo", "num_train_epochs: 2", epochs=5).settings.epochs == 5
        assert settle("dpo", "epochs: 2", num_train_epochs=5).settings.epochs == 5
        assert settle("dpo", "num_train_epochs: 2", max_steps="5").settings.steps == 5

    def test_files_take_the_place_of_a_data_set_of_the_hub(self, settle: Settle) -> None:
        settings = settle("dpo", "dataset_name: trl-lib/ultrafeedback_binarized").settings
        assert settings.data == ("pairs.jsonl",)

    def test_names_that_work_together_may_stand_apart(self, settle: Settle) -> None:
        text = "per_device_train_batch_size: 4\ngradient_accumulation_steps: 8\nuse_peft: true\nlora_r: 4\n"
        settings = settle("dpo", text, gradient_accumulation_steps="2", lora_r="6").settings
        assert (settings.batch_size, settings.lora) == (8, LoraSettings(rank=6))

    def test_a_value_that_does_not_fit_is_named_as_it_was_given(self, settle: Settle) -> None:
        message = r"run.yaml:2 ref_model_mixup_alpha: reference.alpha must be at most 1; got 8$"
        with refused(message):
            settle("tr-dpo", "beta: 0.1\nref_model_mixup_alpha: 8\n")

    def test_a_refusal_is_named_with_its_line(self, settle: Settle) -> None:
        with refused(r"run.yaml:2: load_in_8bit True is not offered"):
            settle("dpo", "beta: 0.1\nload_in_8bit: true\n")

    def test_a_misspelt_name_of_trl(self, settle: Settle) -> None:
        message = "per_device_train_batchsize is not a setting .*; did you mean per_device_train_batch_size?"
        with refused(message):
            settle("dpo", per_device_train_batchsize=4)


def test_a_name_stands_in_one_row() -> None:
    names = [name for row in TABLE for name in row.names]
    assert len(names) == len(set(names))
    assert all(row.says for row in TABLE)


ONLINE_DPO = """\
model_name_or_path: models/sft
reward_model_path: runs/rm/model
dataset_name: prompts.jsonl
output_dir: runs/online
learning_rate: 5.0e-7
beta: 0.1
loss_type: ipo
max_new_tokens: 64
temperature: 0.9
top_k: 0
num_train_epochs: 1
per_device_train_batch_size: 8
log_completions: true
"""


def test_an_online_recipe_by_value(settle: Settle) -> None:
    with collected(logger) as said:
        resolved = settle("oaif", ONLINE_DPO, model=None, output=None, prompts=None, annotator=None)
    settings = resolved.settings
    assert (settings.model, settings.output, settings.prompts) == (
        "models/sft",
        "runs/online",
        ("prompts.jsonl",),
    )
    assert settings.annotator == RewardAnnotator("runs/rm/model")
    assert (settings.sampler.max_new_tokens, settings.sampler.temperature, settings.batch_size) == (
        64,
        0.9,
        8,
    )
    assert dict(resolved.method_settings)["objective"] == "ipo"
    assert dict(resolved.method_settings)["beta"] == 0.1
    assert "log_completions has no effect: every response is written to examples.jsonl" in said


@pytest.mark.parametrize(
    "name", ["cliprange", "vf_coef", "lam", "gamma", "whiten_rewards", "missing_eos_penalty"]
)
def test_a_term_that_a_method_lacks(settle: Settle, name: str) -> None:
    with refused(rf"^{name} is refused: method dpo has no such term; leave it out$"):
        settle("dpo", **{name: 0.5})
    assert settle("dpo", **{name: "false"}).settings.learning_rate == 1e-6


def test_what_a_method_becomes(settle: Settle) -> None:
    given = {
        "cliprange": 0.1,
        "vf_coef": 0.5,
        "lam": 0.9,
        "gamma": 0.99,
        "kl_coef": 0.2,
        "whiten_rewards": "true",
    }
    learned = dict(settle("ppo", **given).method_settings)
    ours = ("clip", "value_weight", "gae_lambda", "gamma", "kl_coef", "whiten_rewards")
    assert [learned[name] for name in ours] == [0.1, 0.5, 0.9, 0.99, 0.2, True]
    rewards = settle("reward-model", center_rewards_coefficient=0.02).method_settings
    assert dict(rewards)["centring"] == 0.02


def test_beta_where_a_method_has_none(settle: Settle) -> None:
    with refused(r"^beta is refused: method sft has no such term; leave it out$"):
        settle("sft", beta=0.1)
    assert dict(settle("oaif", kl_coef=0.2).method_settings)["beta"] == 0.2


def test_a_data_set_of_prompts(settle: Settle) -> None:
    assert settle("oaif", prompts=None, dataset_name="p.jsonl").settings.prompts == ("p.jsonl",)
    assert settle("dpo", data=None, dataset_name="d.jsonl").settings.data == ("d.jsonl",)


def test_a_name_of_trl_and_one_of_ours(settle: Settle) -> None:
    settings = settle("oaif", "temperature: 0.7\n", annotator=None, judge="world:proxy").settings
    assert (settings.sampler.temperature, settings.annotator) == (0.7, WorldAnnotator("proxy"))
    with refused(r"temperature and sampler\.temperature are both given and differ; give one"):
        settle("oaif", "temperature: 0.7\nsampler: {temperature: 0.8}\n")
    with refused(r"^reward and annotator are both given"):
        settle("oaif", reward_model_path="rm")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "method"),
    [("RLOOConfig", "oaif"), ("OnlineDPOConfig", "oaif"), ("RewardConfig", "reward-model")],
)
def test_every_name_of_a_config_is_known(config: str, method: str) -> None:
    """Those that TRL adds to transformers' own; every one is translated, of no effect, or refused."""
    trl = pytest.importorskip("trl")
    transformers = pytest.importorskip("transformers")
    if config == "OnlineDPOConfig":
        trl = pytest.importorskip("trl.experimental.online_dpo")
    own = {field.name for field in dataclasses.fields(getattr(trl, config))}
    names = own - {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    info = METHODS[method]
    known = handled_names(info) | set(RunSettings.model_fields) | set(info.settings.model_fields)
    assert len(names) > 10 and not names - known
