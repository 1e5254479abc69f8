"""TRL's and transformers' names of settings, but for those with a rule of their own; `trl` makes rows of them.

Names that are ours too, with the same meaning (`learning_rate`, `seed`, ...), are not here. PPO's names are those up to
TRL 1.12.
"""

from typing import Any

RENAMED = {
    "model": "model_name_or_path",
    "output": "output_dir",
    "run_name": "exp_name",
    "chat_template": "chat_template_path",
    "max_length": "max_seq_length",
    "gradient_checkpointing": "activation_checkpointing",
    "keep_checkpoints": "save_total_limit",
    "annotator": "judge",
    "reward": "reward_model_path",
    "sampler.max_new_tokens": "max_new_tokens max_completion_length response_length",
    "sampler.responses": "num_generations rloo_k",
    "sampler.temperature": "temperature",
    "sampler.top_p": "top_p",
    "sampler.top_k": "top_k",
    "round_passes": "num_iterations num_ppo_epochs",
}
"""Our setting -> their names for it."""
OF_METHOD = {
    "beta": "kl_coef",
    "kl_coef": "beta",
    "clip": "cliprange epsilon",
    "value_clip": "cliprange_value",
    "value_weight": "vf_coef",
    "gamma": "gamma",
    "gae_lambda": "lam",
    "whiten_rewards": "whiten_rewards",
    "whiten_advantages": "normalize_advantages",
    "missing_end_penalty": "missing_eos_penalty",
    "centring": "center_rewards_coefficient",
}
"""A setting that some methods have -> their names for it; of other methods, only what switches it off is taken."""
NO_EFFECT = {
    "files are given one by one, as data and eval_data": "dataset_config dataset_train_split dataset_test_split",
    "files are read as they are": "dataset_streaming dataset_num_proc",
    "a run trains, and evaluates if it has eval_data": "do_train do_eval",
    "micro_batch_tokens bounds memory": "per_device_eval_batch_size eval_accumulation_steps auto_find_batch_size "
    "precompute_ref_batch_size",
    "no batch has padding; prompts and responses are packed as they are": "packing packing_strategy padding_free "
    "pad_token label_pad_token_id padding_value pad_to_multiple_of use_logits_to_keep group_by_length",
    "attention is trueup's own; see the setting `attention`": "attn_implementation",
    "trueup chooses this itself, and results do not depend on it": "gradient_checkpointing_kwargs use_liger_kernel "
    "torch_compile tf32 use_cache bf16_full_eval activation_offloading dataloader_num_workers full_determinism "
    "dataloader_pin_memory ddp_find_unused_parameters ddp_timeout",
    "trueup chooses this itself": "use_transformers_continuous_batching use_transformers_paged "
    "transformers_continuous_batching_config cache_implementation",
    "results do not depend on it": "torch_empty_cache_steps",
    "the model is a causal language model": "lora_task_type",
    "weights are not quantized": "bnb_4bit_quant_type bnb_4bit_compute_dtype use_bnb_nested_quant",
    "the loss has the reverse KL": "f_alpha_divergence_coef",
    "the finished model is the last one": "metric_for_best_model greater_is_better",
    "a checkpoint holds all that resuming needs": "save_only_model save_safetensors",
    "nothing is uploaded": "hub_model_id hub_strategy hub_private_repo hub_revision",
    "progress is always shown": "disable_tqdm log_level logging_first_step logging_dir",
    "a loss that is not finite stops the run": "logging_nan_inf_filter",
    "evaluation measures feedback; it writes no text": "generate_during_eval eval_on_start num_generations_eval "
    "num_sample_generations",
    "rows keep what the method needs": "remove_unused_columns",
    "losses are normalised over the whole batch": "average_tokens_across_devices",
    "the server has its own settings": "vllm_gpu_memory_utilization vllm_tensor_parallel_size vllm_model_impl "
    "vllm_enable_sleep_mode vllm_max_model_length vllm_group_port",
    "sampler.timeout bounds a request": "vllm_server_timeout",
    "training runs in one process": "ds3_gather_for_generation",
    "the batch that is sampled bounds no memory": "local_rollout_forward_batch_size",
    "every response is written to examples.jsonl": "log_completions log_multimodal log_unique_prompts "
    "num_completions_to_print",
}
"""Why a name changes nothing here -> the names."""
OFF, NEVER = (False,), ()
REFUSED: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("datasets dataset_kwargs", NEVER, "give each file as data"),
    ("dataset_text_field", ("text",), "rename the column"),
    ("model_revision", ("main",), "a local folder has one revision"),
    ("model_init_kwargs", ({},), "set what is needed in the model's config.json"),
    ("tokenizer_name_or_path", NEVER, "put the tokenizer into the model's folder"),
    ("overwrite_output_dir", OFF, "name a new output folder, or remove the old one"),
    ("env", ({},), "set variables in the shell"),
    ("truncation_mode", ("keep_start",), "a response is cut at its end, a prompt at its start"),
    ("dataloader_drop_last", OFF, "passes are laid end to end, and none is cut short"),
    ("lr_scheduler_kwargs", ({},), "a schedule has no further settings"),
    ("optim_args", ("",), "AdamW is set by adam_beta1, adam_beta2 and adam_epsilon"),
    ("neftune_noise_alpha", NEVER, "no noise is added to embeddings"),
    ("data_seed", NEVER, "give the seed as seed"),
    ("fsdp deepspeed", ("", [], False), "training runs in one process"),
    ("use_rslora use_dora", OFF, "an adapter is plain LoRA"),
    ("lora_modules_to_save", ([],), "only the layers in lora.targets are trained"),
    ("load_in_4bit load_in_8bit", OFF, "quantized weights are not trained"),
    ("ref_model ref_model_name_or_path", NEVER, "the reference is the policy as it starts"),
    ("ref_model_init_kwargs ref_adapter_name", ({},), "the reference is the policy as it starts"),
    ("reference_free force_use_ref_model", OFF, "the method decides whether there is a reference"),
    ("loss_weights rpo_alpha ld_alpha discopop_tau", NEVER, "the loss has no such term"),
    ("use_weighting", OFF, "the loss has no such term"),
    ("router_aux_loss_coef", (0,), "the loss has no such term"),
    ("label_smoothing", (0,), "give each pair a probability in its row instead"),
    ("f_divergence_type", ("reverse_kl",), "the loss has the reverse KL"),
    ("disable_dropout", (True,), "dropout inside the model is off"),
    ("completion_only_loss", (True,), "the loss covers the response alone"),
    ("load_best_model_at_end", OFF, "the finished model is the last one"),
    ("push_to_hub", OFF, "nothing is uploaded"),
    ("reward_weights", (1,), "give one reward"),
    ("sft_model_path", NEVER, "the finished supervised model is given as model"),
    ("min_p", (0,), "give sampler.top_p or sampler.top_k"),
    ("repetition_penalty", (1,), "nothing is taken off what was said before"),
    ("generation_kwargs", ({},), "give the settings of sampler"),
    ("chat_template_kwargs", ({},), "write a chat template that has them"),
    ("stop_token", ("eos",), "give sampler.stop, or eos_token"),
    ("stop_token_id", NEVER, "give sampler.stop, or eos_token"),
    ("vllm_structured_outputs_regex", NEVER, "responses have no form given"),
    ("generation_batch_size", NEVER, "give round_prompts, the prompts sampled at a time"),
    ("steps_per_generation", (1,), "give round_prompts, the prompts sampled at a time"),
    (
        "num_mini_batches",
        (1,),
        "give round_prompts, the prompts sampled at a time, and batch_size, those of an optimizer step",
    ),
    ("total_episodes", NEVER, "give epochs, or steps"),
    ("shuffle_dataset", (True,), "prompts come in an order drawn with the seed"),
    ("kl_estimator", ("k1",), "the KL in the reward is log(pi / pi_ref) itself, k1"),
    ("epsilon_high", NEVER, "the ratio is clipped alike on both sides"),
    ("mask_truncated_completions", OFF, "give missing_end_penalty"),
)
"""Names that would change the result in a way not offered, values of theirs that change nothing, what to do instead."""
SWITCHES: dict[str, tuple[str, object]] = {
    "use_cpu no_cuda": ("device", "cpu"),
    "assistant_only_loss": ("turns", "all"),
}
"""Names that, where one is true, stand for a value of ours."""
CADENCES = {
    "eval_every": ("eval_strategy evaluation_strategy eval_steps", "eval"),
    "save_every": ("save_strategy save_steps", "save"),
    "log_every": ("logging_strategy logging_steps", "logging"),
}
"""Our number of steps -> their names of a strategy and its steps, and what they call it."""
LORA = {"lora_r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout", "lora_target_modules": "targets"}
TRUST_REGION = {"ref_model_mixup_alpha": "alpha", "ref_model_sync_steps": "every"}
LOSS_IMPLIES: dict[str, dict[str, Any]] = {"ipo": {"per_token": True}}
"""TRL's `loss_type` -> settings with which a method computes that loss as TRL does."""
LOSS_DEFAULTS: dict[str, dict[str, Any]] = {"hinge": {"beta": 0.1}, "robust": {"label_smoothing": 0.0}}
"""TRL's `loss_type` -> defaults of TRL's DPOConfig that differ from those of our method; they hold unless given."""
