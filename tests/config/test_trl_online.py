"""TRL's names of what samples, scores and learns from samples."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from trueup.config.resolve import Resolved
from trueup.config.trl_options import handled_names, translate
from trueup.errors import InputError
from trueup.methods import METHODS
from trueup.settings.annotator_settings import RewardAnnotator, WorldAnnotator
from trueup.settings.run_settings import RunSettings

Settle = Callable[..., Resolved]

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


def test_a_recipe_by_value(settle: Settle) -> None:
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
    assert "log_completions has no effect: every response is written to examples.jsonl" in resolved.notes


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({"max_completion_length": 32, "rloo_k": "4"}, {"sampler.max_new_tokens": 32, "sampler.responses": "4"}),
        ({"num_generations": 2, "response_length": 5}, {"sampler.responses": 2, "sampler.max_new_tokens": 5}),
        ({"num_ppo_epochs": 4}, {"round_passes": 4}),
        ({"num_iterations": 2, "top_p": 0.9}, {"round_passes": 2, "sampler.top_p": 0.9}),
        ({"judge": "openai"}, {"annotator": "openai"}),
        ({"reward_funcs": ["rewards.py:f"], "reward_weights": [1.0]}, {"reward": "rewards.py:f"}),
        ({"use_vllm": False, "vllm_mode": "server"}, {}),
        (
            {"use_vllm": "true", "vllm_mode": "server", "vllm_server_base_url": "http://h:1/v1/"},
            {"sampler.engine": "server", "sampler.base_url": "http://h:1/v1"},
        ),
        (
            {"use_vllm": True, "vllm_mode": "server", "vllm_server_port": 9, "vllm_server_host": "h"},
            {"sampler.engine": "server", "sampler.base_url": "http://h:9/v1"},
        ),
        ({"use_transformers_paged": True}, {}),
        ({"use_transformers_continuous_batching": False, "num_mini_batches": "1"}, {}),
        ({"cliprange": 0.2, "cliprange_value": 0.3}, {"clip": 0.2, "value_clip": 0.3}),
        ({"vf_coef": 0.1, "lam": 0.95}, {"value_weight": 0.1, "gae_lambda": 0.95}),
        ({"epsilon": 0.2, "missing_eos_penalty": 1}, {"clip": 0.2, "missing_end_penalty": 1}),
        ({"beta": 0.05}, {"kl_coef": 0.05}),
        ({"reward_clip_range": [-5, 5]}, {"clip_reward": 5}),
        ({"reward_clip_range": "-5,5", "kl_estimator": "k1"}, {"clip_reward": 5}),
        ({"normalize_advantages": True, "exp_name": "x"}, {"whiten_advantages": True, "run_name": "x"}),
    ],
)  # fmt: skip
def test_a_name_becomes_ours(values: dict[str, Any], settings: dict[str, Any]) -> None:
    assert translate(values, METHODS["ppo"]).settings == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"use_vllm": True}, r"^use_vllm with vllm_mode colocate is not offered: start vllm serve, and"),
        ({"use_vllm": True, "vllm_mode": "sever"}, r"^vllm_mode must be one of server, colocate; got"),
        ({"reward_funcs": ["a", "b"]}, r"^reward_funcs \['a', 'b'\] is not offered: give one; a function"),
        ({"reward_weights": [1, 2]}, r"^reward_weights \[1, 2\] is not offered: give one reward"),
        ({"max_new_tokens": 3, "response_length": 4}, r"max_new_tokens and response_length contradict each"),
        ({"num_mini_batches": 4}, r"^num_mini_batches 4 is not offered: give round_prompts, .* and"),
        ({"total_episodes": 1000}, r"^total_episodes 1000 is not offered: give epochs, or steps$"),
        ({"kl_estimator": "k3"}, r"^kl_estimator 'k3' is not offered"),
        ({"reward_clip_range": [0, 5]}, r"^reward_clip_range 0 to 5 is not offered: rewards are clipped to"),
        ({"reward_clip_range": 5}, r"^reward_clip_range must be two numbers; got 5$"),
        ({"min_p": 0.1, "repetition_penalty": 1.2}, r"^min_p 0\.1 is not offered.*; repetition_penalty"),
        ({"center_rewards_coefficient": 0.1}, r"^center_rewards_coefficient is refused: method ppo has no"),
    ],
)
def test_a_name_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        translate(values, METHODS["ppo"])


@pytest.mark.parametrize(
    "name", ["cliprange", "vf_coef", "lam", "gamma", "whiten_rewards", "missing_eos_penalty"]
)
def test_a_term_that_a_method_lacks(settle: Settle, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} is refused: method dpo has no such term; leave it out$"):
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
    with pytest.raises(InputError, match=r"^beta is refused: method sft has no such term; leave it out$"):
        settle("sft", beta=0.1)
    assert dict(settle("oaif", kl_coef=0.2).method_settings)["beta"] == 0.2


def test_a_data_set_of_prompts(settle: Settle) -> None:
    assert settle("oaif", prompts=None, dataset_name="p.jsonl").settings.prompts == ("p.jsonl",)
    assert settle("dpo", data=None, dataset_name="d.jsonl").settings.data == ("d.jsonl",)


def test_a_name_of_trl_and_one_of_ours(settle: Settle) -> None:
    settings = settle("oaif", "temperature: 0.7\n", annotator=None, judge="world:proxy").settings
    assert (settings.sampler.temperature, settings.annotator) == (0.7, WorldAnnotator("proxy"))
    with pytest.raises(
        InputError, match=r"temperature and sampler\.temperature are both given and differ; give one"
    ):
        settle("oaif", "temperature: 0.7\nsampler: {temperature: 0.8}\n")
    with pytest.raises(InputError, match=r"^reward and annotator are both given"):
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
