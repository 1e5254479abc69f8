"""TRL's names of what samples, scores and learns from samples: OnlineDPO, RLOO, PPO (up to 1.12) and reward models."""

from __future__ import annotations

from trueup.config.trl_rows import Outcome, Row, Values, no_effect, of_method, refused, renamed, same
from trueup.errors import InputError
from trueup.methods.method import MethodInfo
from trueup.settings.validation import convert, one_of, shown

VLLM = ("use_vllm", "vllm_mode", "vllm_server_base_url", "vllm_server_host", "vllm_server_port")
OBJECTIVES = {"sigmoid": "dpo", "ipo": "ipo", "hinge": "slic"}
"""TRL's `loss_type` -> the objective of a method that has several."""
OWN_SAMPLING = "trueup chooses this itself"
OWN_SERVER = "the server has its own settings"
LOGGED = "every response is written to examples.jsonl"


def vllm(values: Values, method: MethodInfo) -> Outcome:
    inner = [name for name in values if name != "use_vllm"]
    if not ("use_vllm" in values and convert(bool, "use_vllm", values["use_vllm"])):
        return Outcome(notes=tuple(f"{name} has no effect without use_vllm: true" for name in inner))
    mode = values.get("vllm_mode", "colocate")
    if mode not in ("server", "colocate"):
        raise InputError(f"vllm_mode must be {one_of(('server', 'colocate'), mode)}")
    if mode == "colocate":
        raise InputError(
            "use_vllm with vllm_mode colocate is not offered: start vllm serve, and give vllm_mode server, or "
            "sampler.engine server with sampler.base_url"
        )
    host, port = values.get("vllm_server_host", "localhost"), values.get("vllm_server_port", 8000)
    url = str(values.get("vllm_server_base_url", f"http://{host}:{port}")).rstrip("/")
    return Outcome(
        {"sampler.engine": "server", "sampler.base_url": url if url.endswith("/v1") else f"{url}/v1"}
    )


def reward(values: Values, method: MethodInfo) -> Outcome:
    given = values["reward_funcs"]
    functions = list(given) if isinstance(given, list | tuple) else [given]
    if len(functions) != 1:
        raise InputError(
            f"reward_funcs {shown(given)} is not offered: give one; a function FILE.py:FUNCTION may add several up"
        )
    return Outcome({"reward": functions[0]})


def clipped_reward(values: Values, method: MethodInfo) -> Outcome:
    given = values["reward_clip_range"]
    both = given if isinstance(given, list | tuple) else str(given).split(",")
    if len(both) != 2:
        raise InputError(f"reward_clip_range must be two numbers; got {shown(given)}")
    low, high = (convert(float, "reward_clip_range", one) for one in both)
    if low != -high:
        raise InputError(
            f"reward_clip_range {low:g} to {high:g} is not offered: rewards are clipped to -c and c alike"
        )
    return of_method("reward_clip_range", "clip_reward").translate({"reward_clip_range": high}, method)


def kl(values: Values, method: MethodInfo) -> Outcome:
    """RLOO's and PPO's `beta` or `kl_coef`, whichever the method does not call by the same name."""
    (name,) = values
    return of_method(name, "kl_coef" if name != "kl_coef" else "beta").translate(values, method)


def data_set(values: Values, method: MethodInfo) -> Outcome:
    return Outcome({"data" if "offline" in method.sources else "prompts": values["dataset_name"]})


def episodes(values: Values, method: MethodInfo) -> Outcome:
    raise InputError(
        f"total_episodes {shown(values['total_episodes'])} is not offered: give epochs, or steps"
    )


def mini_batches(values: Values, method: MethodInfo) -> Outcome:
    if same(values["num_mini_batches"], 1):
        return Outcome()
    raise InputError(
        f"num_mini_batches {shown(values['num_mini_batches'])} is not offered: give round_prompts, the prompts sampled "
        "at a time, and batch_size, those of an optimizer step"
    )


ONLINE: tuple[Row, ...] = (
    # Who judges.
    renamed("reward_model_path", "reward"),
    Row(("reward_funcs",), "`reward`, if it is one", reward),
    renamed("judge", "annotator"),
    *refused("give one reward", "reward_weights", harmless=(1,)),
    *refused("the finished supervised model is given as model", "sft_model_path", harmless=()),
    # How responses are sampled.
    *(renamed(name, "sampler.max_new_tokens") for name in ("max_new_tokens", "max_completion_length")),
    renamed("response_length", "sampler.max_new_tokens"),
    *(renamed(name, f"sampler.{name}") for name in ("temperature", "top_p", "top_k")),
    *(renamed(name, "sampler.responses") for name in ("num_generations", "rloo_k")),
    *refused("give sampler.top_p or sampler.top_k", "min_p", harmless=(0,)),
    *refused("nothing is taken off what was said before", "repetition_penalty", harmless=(1,)),
    *refused("give the settings of sampler", "generation_kwargs", harmless=({},)),
    *refused("write a chat template that has them", "chat_template_kwargs", harmless=({},)),
    *refused("give sampler.stop, or eos_token", "stop_token", harmless=("eos",)),
    *refused("give sampler.stop, or eos_token", "stop_token_id", harmless=()),
    Row(VLLM, "`sampler.engine: server` and `sampler.base_url`, if vllm_mode is server, else refused", vllm),
    *no_effect(OWN_SERVER, "vllm_gpu_memory_utilization", "vllm_tensor_parallel_size", "vllm_model_impl"),
    *no_effect(OWN_SERVER, "vllm_enable_sleep_mode", "vllm_max_model_length", "vllm_group_port"),
    *no_effect("sampler.timeout bounds a request", "vllm_server_timeout"),
    *refused("responses have no form given", "vllm_structured_outputs_regex", harmless=()),
    *no_effect(OWN_SAMPLING, "use_transformers_continuous_batching", "use_transformers_paged"),
    *no_effect(OWN_SAMPLING, "transformers_continuous_batching_config", "cache_implementation"),
    *no_effect("training runs in one process", "ds3_gather_for_generation"),
    *no_effect("the batch that is sampled bounds no memory", "local_rollout_forward_batch_size"),
    # Rounds.
    *(renamed(name, "round_passes") for name in ("num_iterations", "num_ppo_epochs")),
    *refused("give round_prompts, the prompts sampled at a time", "generation_batch_size", harmless=()),
    *refused("give round_prompts, the prompts sampled at a time", "steps_per_generation", harmless=(1,)),
    Row(("num_mini_batches",), "refused unless 1: give round_prompts and batch_size", mini_batches),
    Row(("total_episodes",), "refused: give epochs or steps", episodes),
    *refused("prompts come in an order drawn with the seed", "shuffle_dataset", harmless=(True,)),
    # What is learned.
    Row(("beta",), "`kl_coef`, of a method that has no beta", kl),
    Row(("kl_coef",), "`beta`, of a method that has no kl_coef", kl),
    *refused("the KL in the reward is log(pi / pi_ref) itself, k1", "kl_estimator", harmless=("k1",)),
    of_method("cliprange", "clip"),
    of_method("epsilon", "clip"),
    *refused("the ratio is clipped alike on both sides", "epsilon_high", harmless=()),
    of_method("cliprange_value", "value_clip"),
    of_method("vf_coef", "value_weight"),
    of_method("gamma", "gamma"),
    of_method("lam", "gae_lambda"),
    of_method("whiten_rewards", "whiten_rewards"),
    of_method("normalize_advantages", "whiten_advantages"),
    Row(("reward_clip_range",), "`clip_reward`, if alike on both sides", clipped_reward),
    of_method("missing_eos_penalty", "missing_end_penalty"),
    *refused("give missing_end_penalty", "mask_truncated_completions"),
    of_method("center_rewards_coefficient", "centring"),
    *refused("the loss has no such term", "router_aux_loss_coef", harmless=(0,)),
    # Progress and output.
    renamed("exp_name", "run_name"),
    *no_effect(LOGGED, "log_completions", "log_multimodal", "log_unique_prompts", "num_completions_to_print"),
    *no_effect(
        "evaluation measures feedback; it writes no text", "num_generations_eval", "num_sample_generations"
    ),
    *no_effect("results do not depend on it", "torch_empty_cache_steps"),
)
