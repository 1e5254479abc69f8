"""What becomes of each of TRL's and transformers' names of settings: one table of rules.

A name either becomes one of our settings, or has no effect here, with a warning, or is refused with what to do
instead. What a file leaves out takes our defaults, not TRL's, unless it names the loss by TRL's `loss_type` and that
loss has another default there. `trl_names.toml` holds the names that need no rule of their own.
"""

from collections.abc import Callable
from typing import Any, get_args

from trueup.config.trl_rows import NAMES, Row, Rule, Translated, Values, flag, plain_rows, term
from trueup.errors import InputError
from trueup.methods.method import METHODS, MethodInfo
from trueup.metrics import FIGURES, GREATER, TRACKERS
from trueup.settings import annotator_settings, run_settings, validation
from trueup.words import as_given, one_of

SCHEDULES = (*get_args(run_settings.Schedule), "constant_with_warmup")

RULES: list[Row] = []


def _rule(names: str, *, becomes: bool = True) -> Callable[[Rule], Rule]:
    """Makes a row of names that depend on each other or on their values; its docstring is what the row says."""

    def add(rule: Rule) -> Rule:
        RULES.append(Row(tuple(names.split()), " ".join((rule.__doc__ or "").split()), rule, becomes))
        return rule

    return add


@_rule("dataset_name")
def _data_set(given: Values, method: MethodInfo) -> Translated:
    """`data`; `prompts` of a method that learns from samples alone"""
    return Translated({"data" if "offline" in method.sources else "prompts": given["dataset_name"]})


@_rule("per_device_train_batch_size gradient_accumulation_steps")
def _batch(given: Values, method: MethodInfo) -> Translated:
    """`batch_size` is their product (8 and 1 where left out)"""
    per_device, accumulation = "per_device_train_batch_size", "gradient_accumulation_steps"
    size = validation.convert(int, per_device, given.get(per_device, 8))
    times = validation.convert(int, accumulation, given.get(accumulation, 1))
    note = f"batch_size is {size * times}: {per_device} {size} times {accumulation} {times}, on one device"
    return Translated({"batch_size": size * times}, (note,))


@_rule("max_steps num_train_epochs")
def _length(given: Values, method: MethodInfo) -> Translated:
    """`steps` if max_steps is above 0, else `epochs`"""
    epochs = {"epochs": given["num_train_epochs"]} if "num_train_epochs" in given else {}
    if "max_steps" not in given or validation.convert(int, "max_steps", given["max_steps"]) <= 0:
        return Translated(epochs)
    over = ("num_train_epochs has no effect: max_steps goes before it",)
    return Translated({"steps": given["max_steps"]}, over if epochs else ())


@_rule("lr_scheduler_type")
def _schedule(given: Values, method: MethodInfo) -> Translated:
    """`schedule`: linear, cosine, constant or constant_with_warmup"""
    name = given["lr_scheduler_type"]
    if name not in SCHEDULES:
        raise InputError(f"lr_scheduler_type must be {one_of(SCHEDULES, name)}")
    return Translated({"schedule": name.removesuffix("_with_warmup")})


@_rule("warmup_steps")
def _warm_up(given: Values, method: MethodInfo) -> Translated:
    """`warmup_steps`, or `warmup_ratio` if below 1"""
    steps = validation.convert(float, "warmup_steps", given["warmup_steps"])
    if 0 < steps < 1:
        note = f"warmup_steps {steps:g}, below 1, is taken as warmup_ratio"
        return Translated({"warmup_ratio": steps}, (note,))
    return Translated({"warmup_steps": given["warmup_steps"]})


@_rule("optim")
def _optimizer(given: Values, method: MethodInfo) -> Translated:
    """no effect if AdamW (adamw_torch, adamw_torch_fused, adamw_hf, adamw); `optimizer_states` if in 8 bits"""
    if given["optim"] in ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw"):
        return Translated(notes=("optim has no effect: the optimizer is AdamW",))
    if given["optim"] in ("adamw_8bit", "adamw_bnb_8bit", "adamw_torch_8bit"):
        return Translated({"optimizer_states": "8bit"})
    raise InputError(
        f"optim {as_given(given['optim'])} is not offered, only AdamW, also with 8bit moments, and --optimizer muon"
    )


@_rule("bf16 fp16 dtype torch_dtype")
def _precision(given: Values, method: MethodInfo) -> Translated:
    """`precision`: bf16 or fp32, weights are held in fp32; fp16 is refused"""
    bf16 = flag(given, "bf16")
    dtypes = {name: given[name] for name in ("dtype", "torch_dtype") if name in given}
    if flag(given, "fp16") or "float16" in dtypes.values():
        instead = "use bf16, or neither for fp32"
        raise InputError(f"fp16 is not offered, as its range needs loss scaling: {instead}")
    for name, dtype in dtypes.items():
        if dtype not in (known := ("auto", "float32", "bfloat16")):
            raise InputError(f"{name} must be {one_of(known, dtype)}")
    notes = tuple(f"{name}: weights are held in fp32; precision says what is computed in" for name in dtypes)
    if bf16 or (bf16 is None and "bfloat16" in dtypes.values()):
        return Translated({"precision": "bf16"}, notes)
    return Translated({} if bf16 is None else {"precision": "fp32"}, notes)


@_rule(f"use_peft {' '.join(NAMES['lora'])}")
def _lora(given: Values, method: MethodInfo) -> Translated:
    """`lora`, and `lora.rank`, `.alpha`, `.dropout`, `.targets`, `.modules_to_save`, `.rslora`, `.dora`; no effect
    without `use_peft: true`"""
    if not flag(given, "use_peft"):
        return _idle(given, "use_peft: true")
    return Translated({"lora": True} | _inside("lora", given))


@_rule("load_in_4bit bnb_4bit_quant_type")
def _quantized(given: Values, method: MethodInfo) -> Translated:
    """`quantize`: nf4, or the bnb_4bit_quant_type, if load_in_4bit is true"""
    if not flag(given, "load_in_4bit"):
        return _idle(given, "load_in_4bit: true")
    return Translated({"quantize": given.get("bnb_4bit_quant_type", "nf4")})


@_rule("temperature")
def _temperature(given: Values, method: MethodInfo) -> Translated:
    """`sampler.temperature`; also `logit_temperature` of methods that have it, as TRL's policy gradients divide the
    logits that they learn from by it"""
    value, ours = given["temperature"], "logit_temperature"
    divided = {ours: value} if ours in method.settings.model_fields else {}
    what = "logits are divided by it where they are learned from too, as in TRL"
    notes = (f"temperature {as_given(value)}: {what}",) if divided else ()
    return Translated({"sampler.temperature": value} | divided, notes)


@_rule("loss_type")
def _loss_type(given: Values, method: MethodInfo) -> Translated:
    """refused unless it is the method's own loss; as in TRL, ipo also gives `per_token: true`, and where these are
    left out hinge gives `beta: 0.1`, robust `label_smoothing: 0.0`, simpo
    `beta: 0.1`, `margin: 0.5` and `sft_weight: 1.0`, and those of GRPO `kl_coef: 0.0` and `unbiased_kl: true`"""
    if len(several := _several(given["loss_type"])) != 1:
        raise InputError(f"loss_type {as_given(given['loss_type'])} is not offered: a method has one loss")
    loss = validation.convert(str, "loss_type", several[0])
    names = method.choices("objective")
    objectives = {loss: name for name in names for loss in METHODS[name].trl_loss.split()[:1]}
    if loss in objectives:
        return Translated({"objective": objectives[loss]})
    fitting = [info.name for info in METHODS.values() if loss in (*info.trl_loss.split(), info.name)]
    if method.name not in (*fitting, *NAMES["loss_with_options"].get(loss, ())):
        instead = f"use method {' or '.join(fitting)}" if fitting else "`trueup methods` lists what there is"
        raise InputError(f"loss_type {loss} is not the loss of method {method.name}: {instead}")
    implied, defaults = NAMES["loss_implies"].get(loss, {}), NAMES["loss_defaults"].get(loss, {})
    notes = {
        name: f"loss_type {loss} is taken with {name} {str(value).lower()}, as in TRL"
        for name, value in {**implied, **defaults}.items()
    }
    unless_given = {name: (value, notes[name]) for name, value in defaults.items()}
    return Translated(implied, tuple(notes[name] for name in implied), unless_given)


@_rule("f_alpha_divergence_coef")
def _alpha(given: Values, method: MethodInfo) -> Translated:
    """`alpha` of the method with a divergence is 1 less it; no effect of others"""
    name = "f_alpha_divergence_coef"
    if "divergence" not in method.settings.model_fields:
        return Translated(notes=(f"{name} has no effect: the loss has the reverse KL",))
    return Translated({"alpha": 1 - validation.convert(float, name, given[name])})


@_rule("use_weighting", becomes=False)
def _weighting(given: Values, method: MethodInfo) -> Translated:
    """no effect of the method that weighs its pairs, of others refused if true"""
    if flag(given, "use_weighting") and method.name not in (weighs := NAMES["weighting"]):
        raise InputError(
            f"use_weighting is true, but method {method.name} does not weigh its pairs: use method {weighs[0]}"
        )
    return Translated()


@_rule("sync_ref_model ref_model_mixup_alpha ref_model_sync_steps")
def _moving_reference(given: Values, method: MethodInfo) -> Translated:
    """`reference.kind: trust-region` with `reference.alpha` and `reference.every`"""
    kinds = method.choices("reference.kind")
    always = kinds == ("trust-region",)
    sync = flag(given, "sync_ref_model")
    if sync is False and always:
        loss = method.trl_loss.split()[:1]
        still = [info.name for info in METHODS.values() if "frozen" in info.choices("reference.kind")]
        fitting = [name for name in still if METHODS[name].trl_loss.split()[:1] == loss] or still
        raise InputError(
            f"sync_ref_model is false, but the reference of method {method.name} always moves; "
            f"use method {' or '.join(fitting)}"
        )
    if sync and "trust-region" not in kinds:
        raise InputError(f"sync_ref_model is true, but method {method.name} needs no reference; leave it out")
    if not (sync or always):
        return _idle(given, "sync_ref_model: true")
    inner = _inside("trust_region", given)
    return Translated(inner if always else {"reference.kind": "trust-region"} | inner)


@_rule("precompute_ref_log_probs")
def _cached_reference(given: Values, method: MethodInfo) -> Translated:
    """`reference.kind`: cached if true"""
    if not flag(given, "precompute_ref_log_probs"):
        return Translated()
    kinds = method.choices("reference.kind")
    if "cached" not in kinds:
        why = "has a reference that moves" if kinds else "needs no reference"
        raise InputError(f"precompute_ref_log_probs is true, but method {method.name} {why}; leave it out")
    return Translated({"reference.kind": "cached"})


@_rule("report_to")
def _trackers(given: Values, method: MethodInfo) -> Translated:
    """`trackers`: their names, none or all"""
    names, known = _several(given["report_to"]), list(TRACKERS)
    if names in (["none"], ["all"], []):
        return Translated({"trackers": known if names == ["all"] else []})
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"report_to must be {one_of(('none', 'all', *known), unknown[0])}")
    return Translated({"trackers": names})


@_rule("load_best_model_at_end metric_for_best_model greater_is_better early_stopping_patience")
def _best(given: Values, method: MethodInfo) -> Translated:
    """`keep_best` if load_best_model_at_end is true: `eval_loss` where no metric is named, whose name may lack its
    `eval_`; whether greater is better is known of it, and must agree; `early_stopping` is the patience"""
    name = validation.convert(str, "metric_for_best_model", given.get("metric_for_best_model", "loss"))
    metric = name if name.startswith(("eval_", "online/")) else f"eval_{name}"
    better = FIGURES.get(metric.removeprefix("eval_"), ("", "", ""))[1]
    greater = flag(given, "greater_is_better")
    if better and greater not in (None, better == GREATER):
        which = f"of {metric} the {'greater' if better == GREATER else 'lesser'} value is better"
        raise InputError(f"greater_is_better {as_given(greater)} is refused: {which}")
    patience = "early_stopping_patience"
    inner = {"early_stopping": given[patience]} if patience in given else {}
    if flag(given, "load_best_model_at_end"):
        return Translated({"keep_best": metric} | inner)
    if inner and metric != "eval_loss":
        without = "without load_best_model_at_end: true"
        raise InputError(f"early_stopping_patience by {metric} is not offered {without}")
    return Translated(inner) if inner else _idle(given, "load_best_model_at_end: true")


@_rule("reward_funcs reward_weights")
def _reward(given: Values, method: MethodInfo) -> Translated:
    """`reward`; of several `annotator: weighted`, with `annotator.of` and `annotator.weights`"""
    if "reward_funcs" not in given:
        return _idle(given, "reward_funcs")
    names, weights = _several(given["reward_funcs"]), _several(given.get("reward_weights", 1))
    if len(names) == 1 and validation.convert(float, "reward_weights", weights[0]) == 1:
        return Translated({"reward": names[0]})
    made = {
        "annotator": "weighted",
        "annotator.of": [annotator_settings.reward_layer(str(name)) for name in names],
    }
    return Translated(made | ({"annotator.weights": weights} if "reward_weights" in given else {}))


@_rule("reward_clip_range")
def _clipped_reward(given: Values, method: MethodInfo) -> Translated:
    """`clip_reward`, if alike on both sides"""
    both = given["reward_clip_range"]
    ends = both if isinstance(both, list | tuple) else str(both).split(",")
    if len(ends) != 2:
        raise InputError(f"reward_clip_range must be two numbers; got {as_given(both)}")
    low, high = (validation.convert(float, "reward_clip_range", one) for one in ends)
    if low != -high:
        alike = "rewards are clipped to -c and c alike"
        raise InputError(f"reward_clip_range {low:g} to {high:g} is not offered: {alike}")
    return term("clip_reward", {"reward_clip_range": high}, method)


@_rule("use_vllm vllm_mode vllm_server_base_url vllm_server_host vllm_server_port")
def _vllm(given: Values, method: MethodInfo) -> Translated:
    """`sampler.engine: server` and `sampler.base_url`, if vllm_mode is server, else refused"""
    if not flag(given, "use_vllm"):
        return _idle(given, "use_vllm: true")
    mode = given.get("vllm_mode", "colocate")
    if mode not in ("server", "colocate"):
        raise InputError(f"vllm_mode must be {one_of(('server', 'colocate'), mode)}")
    if mode == "colocate":
        raise InputError(
            "use_vllm with vllm_mode colocate is not offered: start vllm serve, and give vllm_mode server, or "
            "sampler.engine server with sampler.base_url"
        )
    host, port = given.get("vllm_server_host", "localhost"), given.get("vllm_server_port", 8000)
    url = str(given.get("vllm_server_base_url", f"http://{host}:{port}")).rstrip("/")
    return Translated({"sampler.engine": "server", "sampler.base_url": f"{url.removesuffix('/v1')}/v1"})


def _inside(mapping: str, given: Values) -> dict[str, Any]:
    return {ours: given[name] for name, ours in NAMES[mapping].items() if name in given}


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _idle(given: Values, switch: str) -> Translated:
    inner = [name for name in given if name != switch.partition(":")[0]]
    return Translated(notes=tuple(f"{name} has no effect without {switch}" for name in inner))


TABLE = tuple(sorted([*plain_rows(), *RULES], key=lambda row: row.names))
