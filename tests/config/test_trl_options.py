"""TRL's names become ours, or are said to have no effect, or are refused with what to do instead."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from support.refusals import refused

from trueup.config.resolve import Resolved
from trueup.config.trl_names import TABLE, Translated, rows_for, translate
from trueup.display import collected, logger
from trueup.methods import METHODS
from trueup.settings.run_settings import RunSettings

Settle = Callable[..., Resolved]


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
        ("dpo", {"use_peft": True, "use_rslora": True, "use_dora": "false", "lora_modules_to_save": ["lm_head"]},
         {"lora": True, "lora.rslora": True, "lora.dora": "false", "lora.modules_to_save": ["lm_head"]}),
        ("dpo", {"load_in_4bit": True}, {"quantize": "nf4"}),
        ("ipo", {"rpo_alpha": 0.5}, {"sft_weight": 0.5}),
        ("cpo", {"loss_type": "sigmoid", "cpo_alpha": 0.3}, {"sft_weight": 0.3}),
        ("simpo", {"loss_type": "simpo", "simpo_gamma": 1.4}, {"margin": 1.4}),
        ("dpo", {"loss_type": "sigmoid_norm", "f_divergence_type": "reverse_kl"}, {"per_token": True}),
        ("f-dpo", {"loss_type": "sigmoid", "f_divergence_type": "forward_kl"}, {"divergence": "forward-kl"}),
        ("f-dpo", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": "0.75"},
         {"divergence": "alpha", "alpha": 0.25}),
        ("wpo", {"use_weighting": True}, {}),
        ("ld-dpo", {"loss_type": "sigmoid", "ld_alpha": 0.4}, {}),
        ("dpo", {"ld_alpha": 0}, {}),
        ("bco", {"loss_type": "bco_pair"}, {"shift": False}),
        ("grpo", {"loss_type": "dr_grpo", "scale_rewards": False, "epsilon_high": 0.3},
         {"average_over": "constant", "advantage_scale": "none", "clip_high": 0.3}),
        ("grpo", {"importance_sampling_level": "sequence", "scale_rewards": "batch", "beta": 0.1},
         {"sequence_ratio": True, "advantage_scale": "round", "kl_coef": 0.1}),
        ("grpo", {"use_bias_correction_kl": False}, {"unbiased_kl": False}),
        ("dpo", {"load_in_4bit": "true", "bnb_4bit_quant_type": "fp4"}, {"quantize": "fp4"}),
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
        ("dpo", {"chat_template_path": "t.jinja", "max_seq_length": 8}, {"chat_template": "t.jinja", "max_length": 8}),
        ("dpo", {"resume_from_checkpoint": False, "push_to_hub": "false", "label_smoothing": "0.0"}, {}),
        ("dpo", {"hub_model_id": None, "loss_type": None}, {}),
        ("dpo", {"load_best_model_at_end": "true"}, {"keep_best": "eval_loss"}),
        ("dpo", {"load_best_model_at_end": False, "greater_is_better": False}, {}),
        ("dpo", {"early_stopping_patience": 3, "early_stopping_threshold": 0.0}, {"early_stopping": 3}),
        (
            "dpo",
            {"load_best_model_at_end": True, "metric_for_best_model": "rewards/accuracies", "greater_is_better": True,
             "early_stopping_patience": "2"},
            {"keep_best": "eval_rewards/accuracies", "early_stopping": "2"},
        ),
        ("ppo", {"max_completion_length": 32, "rloo_k": "4"}, {"sampler.max_new_tokens": 32, "sampler.responses": "4"}),
        ("ppo", {"num_generations": 2, "response_length": 5}, {"sampler.responses": 2, "sampler.max_new_tokens": 5}),
        ("ppo", {"num_ppo_epochs": 4}, {"round_passes": 4}),
        ("ppo", {"num_iterations": 2, "top_p": 0.9}, {"round_passes": 2, "sampler.top_p": 0.9}),
        ("ppo", {"judge": "openai"}, {"annotator": "openai"}),
        ("ppo", {"reward_funcs": ["rewards.py:f"], "reward_weights": [1.0]}, {"reward": "rewards.py:f"}),
        (
            "ppo", {"reward_funcs": ["runs/rm", "rewards.py:f"], "reward_weights": [1, 0.2]},
            {
                "annotator": "weighted", "annotator.weights": [1, 0.2],
                "annotator.of": [
                    {"kind": "reward", "model": "runs/rm"}, {"kind": "function", "function": "rewards.py:f"},
                ],
            },
        ),
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
        ("reward-model", {"center_rewards_coefficient": 0.02}, {"centring": 0.02}),
        ("oaif", {"reward_model_path": "rm", "loss_type": "ipo"}, {"reward": "rm", "objective": "ipo"}),
        ("oaif", {"kl_coef": 0.2, "dataset_name": "p.jsonl"}, {"beta": 0.2, "prompts": "p.jsonl"}),
        ("dpo", {"dataset_name": "d.jsonl"}, {"data": "d.jsonl"}),
        ("ppo", {"kl_estimator": "k1"}, {}),
        ("ppo", {"normalize_advantages": True, "exp_name": "x"}, {"whiten_advantages": True, "run_name": "x"}),
        ("dpo", {"optim": "adamw_bnb_8bit"}, {"optimizer_states": "8bit"}),
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
        ("dpo", {"optim": "adafactor"}, "optim must be one of adamw_torch, .*; got 'adafactor'"),
        ("dpo", {"lr_scheduler_type": "polynomial"}, "lr_scheduler_type must be one of linear, .*; got"),
        ("dpo", {"loss_type": "nll"}, "loss_type nll is not the loss of method dpo: use method sft"),
        ("rrhf", {"loss_type": "sigmoid"}, "not the loss of method rrhf: use method dpo or tr-dpo"),
        ("dpo", {"f_divergence_type": "js_divergence"}, "'js_divergence' is not offered: use method f-dpo"),
        ("f-dpo", {"f_divergence_type": "tv"}, "f_divergence_type must be one of forward_kl, js_divergence, alpha"),
        ("dpo", {"use_weighting": True}, "use_weighting True is not offered: use method wpo"),
        ("dpo", {"ld_alpha": 0.4}, "ld_alpha is refused: method dpo has no such term; leave it out"),
        ("simpo", {"loss_type": "sigmoid"}, "not the loss of method simpo: use method dpo or tr-dpo$"),
        ("rloo", {"scale_rewards": True}, "True is not offered: the method does not scale its advantages"),
        ("grpo", {"importance_sampling_level": "word"}, "importance_sampling_level must be one of token, sequence"),
        ("dpo", {"loss_type": "discopop"}, "not the loss of method dpo: `trueup methods` lists what there"),
        ("dpo", {"loss_type": ["sigmoid", "nll"]}, "is not offered: a method has one loss"),
        ("tr-dpo", {"sync_ref_model": False}, "the reference of tr-dpo moves; use the method of that loss"),
        ("dpo", {"precompute_ref_log_probs": True, "sync_ref_model": True}, "contradict each other: each"),
        ("dpo", {"load_in_8bit": "true"}, "load_in_8bit 'true' is not offered: give load_in_4bit"),
        ("dpo", {"push_to_hub": True}, "push_to_hub True is not offered: nothing is uploaded"),
        ("dpo", {"greater_is_better": True, "load_best_model_at_end": True},
         "greater_is_better True is refused: of eval_loss the lesser value is better"),
        ("dpo", {"early_stopping_patience": 1, "metric_for_best_model": "eval_kl"}, "patience by eval_kl is not off"),
        ("dpo", {"early_stopping_threshold": 0.1}, "early_stopping_threshold 0.1 is not offered: any gain is one"),
        ("dpo", {"report_to": "mlflow"}, "report_to must be one of none, all, .*; got 'mlflow'"),
        ("dpo", {"report_to": {}}, "report_to must be one of none, all, .*; got {}"),
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
        ("dpo", {"push_to_hub": True, "fsdp": "full_shard"}, "training runs in one process; push_to_hub True is"),
        ("ppo", {"use_vllm": True}, r"^use_vllm with vllm_mode colocate is not offered: start vllm serve, and"),
        ("ppo", {"use_vllm": True, "vllm_mode": "sever"}, r"^vllm_mode must be one of server, colocate; got"),
        ("ppo", {"reward_funcs": ["a", "openai"]}, r"^reward 'openai' is refused, as it compares responses"),
        ("ppo", {"max_new_tokens": 3, "response_length": 4}, r"max_new_tokens and response_length contradict each"),
        ("ppo", {"num_mini_batches": 4}, r"^num_mini_batches 4 is not offered: give round_prompts, .* and"),
        ("ppo", {"total_episodes": 1000}, r"^total_episodes 1000 is not offered: give epochs, or steps$"),
        ("ppo", {"kl_estimator": "k3"}, r"^kl_estimator 'k3' is not offered"),
        ("ppo", {"reward_clip_range": [-5, 5]}, r"^reward_clip_range \[-5, 5\] is not offered: give clip_reward"),
        ("ppo", {"min_p": 0.1, "repetition_penalty": 1.2}, r"^min_p 0\.1 is not offered.*; repetition_penalty"),
        ("ppo", {"center_rewards_coefficient": 0.1}, r"^center_rewards_coefficient is refused: method ppo has no"),
    ],
)  # fmt: skip
def test_refused(method: str, values: dict[str, Any], message: str) -> None:
    with refused(message):
        translated(method, **values)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"padding_free": True}, "padding_free has no effect: no batch has padding"),
        ({"log_completions": True}, "log_completions has no effect: every response is written to examples.jsonl"),
        ({"lora_r": 8}, "lora_r has no effect without use_peft: true"),
        ({"ref_model_mixup_alpha": 0.5}, "ref_model_mixup_alpha has no effect without sync_ref_model: true"),
        ({"metric_for_best_model": "loss"}, "metric_for_best_model has no effect without load_best_model_at_"),
        ({"max_steps": 5, "num_train_epochs": 1}, "num_train_epochs has no effect: max_steps goes before it"),
        ({"eval_strategy": "epoch"}, "eval_strategy epoch has no effect: give eval_every, a number of steps"),
        ({"gradient_accumulation_steps": 2}, "batch_size is 16: per_device_train_batch_size 8 times"),
    ],
)  # fmt: skip
def test_the_warning(values: dict[str, Any], note: str) -> None:
    (said,) = translated(**values).notes
    assert said.startswith(note)


@pytest.mark.parametrize(
    ("method", "name", "message"),
    [
        ("sft", "sync_ref_model", "sync_ref_model: reference.kind is refused: method sft needs no reference; leave it"),
        ("rrhf", "precompute_ref_log_probs", "precompute_ref_log_probs: reference.kind is refused: method rrhf needs"),
        ("tr-dpo", "precompute_ref_log_probs", "precompute_ref_log_probs: reference.kind must be"),
    ],
)
def test_a_reference_that_the_method_has_not(method: str, name: str, message: str, settle: Settle) -> None:
    with refused(message):
        settle(method, **{name: True})


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

    def test_left_out(self, method: str, loss: str, name: str, value: float, ours: float, settle: Settle) -> None:
        with collected(logger) as said:
            made = (settle(method, f"loss_type: {loss}"), settle(method, loss_type=loss))
        assert [dict(resolved.method_settings)[name] for resolved in made] == [value] * 2
        assert said == [f"loss_type {loss} is taken with {name} {value}, as in TRL"] * 2
        assert dict(settle(method).method_settings)[name] == ours

    def test_given(self, method: str, loss: str, name: str, value: float, ours: float, settle: Settle) -> None:
        with collected(logger) as said:
            both_in_file = settle(method, f"{name}: 0.3\nloss_type: {loss}\n")
            over_the_file = settle(method, f"loss_type: {loss}", **{name: "0.3"})
            below_the_loss = settle(method, f"{name}: 0.3", loss_type=loss)
        for resolved in (both_in_file, over_the_file, below_the_loss):
            assert dict(resolved.method_settings)[name] == 0.3
        assert said == []


def test_a_name_stands_in_one_row() -> None:
    names = [name for row in TABLE for name in row.names]
    assert len(names) == len(set(names))
    assert all(row.says for row in TABLE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "method"), [("RLOOConfig", "oaif"), ("OnlineDPOConfig", "oaif"), ("RewardConfig", "reward-model")]
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
    known = (
        {name for row in rows_for(info) for name in row.names}
        | set(RunSettings.model_fields)
        | set(info.settings.model_fields)
    )
    assert len(names) > 10 and not names - known
