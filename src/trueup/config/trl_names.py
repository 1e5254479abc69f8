"""The table of TRL's and transformers' names; `trl` says what a row is.

Names that are ours too, with the same meaning (`learning_rate`, `beta`, `seed`, ...), need no row.
"""

from trueup.config import trl_online, trl_rules
from trueup.config.trl_rows import Row, no_effect, refused, renamed

ALWAYS = "no batch has padding; prompts and responses are packed as they are"
ONE_BY_ONE = "files are given one by one, as data and eval_data"
OWN_ATTENTION = "attention is trueup's own; see the setting `attention`"
BUDGET = "micro_batch_tokens bounds memory"
SPEED = "trueup chooses this itself, and results do not depend on it"
NO_PUSH = "nothing is uploaded"

TABLE: tuple[Row, ...] = (
    # The model, its data, its output.
    renamed("model_name_or_path", "model"),
    renamed("output_dir", "output"),
    Row(
        ("dataset_name",), "`data`; `prompts` of a method that learns from samples alone", trl_online.data_set
    ),
    *no_effect(ONE_BY_ONE, "dataset_config", "dataset_train_split", "dataset_test_split"),
    *no_effect("files are read as they are", "dataset_streaming", "dataset_num_proc"),
    *no_effect("a run trains, and evaluates if it has eval_data", "do_train", "do_eval"),
    *refused("give each file as data", "datasets", "dataset_kwargs", harmless=()),
    *refused("rename the column", "dataset_text_field", harmless=("text",)),
    *refused("a local folder has one revision", "model_revision", harmless=("main",)),
    *refused("set what is needed in the model's config.json", "model_init_kwargs", harmless=({},)),
    *refused("put the tokenizer into the model's folder", "tokenizer_name_or_path", harmless=()),
    renamed("chat_template_path", "chat_template"),
    *refused("name a new output folder, or remove the old one", "overwrite_output_dir"),
    *refused("set variables in the shell", "env", harmless=({},)),
    # How long, how much at once.
    Row(
        ("per_device_train_batch_size", "gradient_accumulation_steps"),
        "`batch_size` is their product (8 and 1 where left out)",
        trl_rules.batch,
    ),
    Row(
        ("max_steps", "num_train_epochs"), "`steps` if max_steps is above 0, else `epochs`", trl_rules.length
    ),
    renamed("max_seq_length", "max_length"),
    *refused(
        "a response is cut at its end, a prompt at its start", "truncation_mode", harmless=("keep_start",)
    ),
    *no_effect(BUDGET, "per_device_eval_batch_size", "eval_accumulation_steps", "precompute_ref_batch_size"),
    *no_effect(BUDGET, "auto_find_batch_size"),
    *no_effect(ALWAYS, "packing", "packing_strategy", "padding_free", "pad_token", "label_pad_token_id"),
    *no_effect(ALWAYS, "padding_value", "pad_to_multiple_of", "use_logits_to_keep", "group_by_length"),
    *refused("passes are laid end to end, and none is cut short", "dataloader_drop_last"),
    # Optimization.
    Row(
        ("lr_scheduler_type",),
        "`schedule`: linear, cosine, constant or constant_with_warmup",
        trl_rules.schedule,
    ),
    *refused("a schedule has no further settings", "lr_scheduler_kwargs", harmless=({},)),
    Row(("warmup_steps",), "`warmup_steps`, or `warmup_ratio` if below 1", trl_rules.warm_up),
    Row(("optim",), f"no effect if AdamW ({', '.join(trl_rules.ADAMW)}), else refused", trl_rules.optimizer),
    *refused("AdamW is set by adam_beta1, adam_beta2 and adam_epsilon", "optim_args", harmless=("",)),
    *refused("no noise is added to embeddings", "neftune_noise_alpha", harmless=()),
    *refused("give the seed as seed", "data_seed", harmless=()),
    # Precision, memory, speed.
    Row(
        ("bf16", "fp16", "dtype", "torch_dtype"),
        "`precision`: bf16 or fp32, weights are held in fp32; fp16 is refused",
        trl_rules.precision,
    ),
    renamed("activation_checkpointing", "gradient_checkpointing"),
    Row(("use_cpu", "no_cuda"), "`device`: cpu if true", trl_rules.device),
    *no_effect(OWN_ATTENTION, "attn_implementation"),
    *no_effect(
        SPEED, "gradient_checkpointing_kwargs", "use_liger_kernel", "torch_compile", "tf32", "use_cache"
    ),
    *no_effect(
        SPEED, "bf16_full_eval", "activation_offloading", "dataloader_num_workers", "full_determinism"
    ),
    *no_effect(SPEED, "dataloader_pin_memory", "ddp_find_unused_parameters", "ddp_timeout"),
    *refused("training runs in one process", "fsdp", "deepspeed", harmless=("", [], False)),
    # Parametrization.
    Row(
        ("use_peft", *trl_rules.LORA),
        "`lora`, and `lora.rank`, `.alpha`, `.dropout`, `.targets`; no effect without `use_peft: true`",
        trl_rules.lora,
    ),
    *refused("an adapter is plain LoRA", "use_rslora", "use_dora"),
    *refused("only the layers in lora.targets are trained", "lora_modules_to_save", harmless=([],)),
    *no_effect("the model is a causal language model", "lora_task_type"),
    *refused("quantized weights are not trained", "load_in_4bit", "load_in_8bit"),
    *no_effect(
        "weights are not quantized", "bnb_4bit_quant_type", "bnb_4bit_compute_dtype", "use_bnb_nested_quant"
    ),
    # The method and its reference.
    Row(
        ("loss_type",),
        "refused unless it is the method's own loss; as in TRL, ipo also gives `per_token: true`, and where these are "
        "left out hinge gives `beta: 0.1` and robust `label_smoothing: 0.0`",
        trl_rules.loss_type,
    ),
    Row(
        ("sync_ref_model", *trl_rules.TRUST_REGION),
        "`reference.kind: trust-region` with `reference.alpha` and `reference.every`",
        trl_rules.moving_reference,
    ),
    Row(
        ("precompute_ref_log_probs",),
        "`reference.kind: cached` if true",
        trl_rules.cached_reference,
    ),
    *refused("the reference is the policy as it starts", "ref_model", "ref_model_name_or_path", harmless=()),
    *refused(
        "the reference is the policy as it starts",
        "ref_model_init_kwargs",
        "ref_adapter_name",
        harmless=({},),
    ),
    *refused("the method decides whether there is a reference", "reference_free", "force_use_ref_model"),
    *refused(
        "the loss has no such term", "loss_weights", "rpo_alpha", "ld_alpha", "discopop_tau", harmless=()
    ),
    *refused("give each pair a probability in its row instead", "label_smoothing", harmless=(0,)),
    *refused("the loss has no such term", "use_weighting"),
    *refused("the loss has the reverse KL", "f_divergence_type", harmless=("reverse_kl",)),
    *no_effect("the loss has the reverse KL", "f_alpha_divergence_coef"),
    *refused("dropout inside the model is off", "disable_dropout", harmless=(True,)),
    *refused("the loss covers the response alone", "completion_only_loss", harmless=(True,)),
    Row(("assistant_only_loss",), "`turns`: all if true", trl_rules.assistant_turns),
    # Progress and output.
    Row(
        ("eval_strategy", "evaluation_strategy", "eval_steps"),
        "`eval_every`, if in steps",
        trl_rules.evaluation,
    ),
    Row(("save_strategy", "save_steps"), "`save_every`, if in steps", trl_rules.saving),
    Row(("logging_strategy", "logging_steps"), "`log_every`, if in steps", trl_rules.logging),
    Row(("report_to",), "`trackers`: none, all, tensorboard, wandb, trackio", trl_rules.trackers),
    renamed("save_total_limit", "keep_checkpoints"),
    *refused("the finished model is the last one", "load_best_model_at_end"),
    *no_effect("the finished model is the last one", "metric_for_best_model", "greater_is_better"),
    *no_effect("a checkpoint holds all that resuming needs", "save_only_model", "save_safetensors"),
    Row(("resume_from_checkpoint",), "refused: use --resume RUN", trl_rules.resume),
    *refused(NO_PUSH, "push_to_hub"),
    *no_effect(NO_PUSH, "hub_model_id", "hub_strategy", "hub_private_repo", "hub_revision"),
    *no_effect("progress is always shown", "disable_tqdm", "log_level", "logging_first_step", "logging_dir"),
    *no_effect("a loss that is not finite stops the run", "logging_nan_inf_filter"),
    *no_effect("evaluation measures feedback; it writes no text", "generate_during_eval", "eval_on_start"),
    *no_effect("rows keep what the method needs", "remove_unused_columns"),
    *no_effect("losses are normalised over the whole batch", "average_tokens_across_devices"),
    *trl_online.ONLINE,
)
