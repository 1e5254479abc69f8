"""TRL's and transformers' names that mean what they mean together, or only with some values."""

from __future__ import annotations

from collections.abc import Mapping

from trueup.config.trl_online import OBJECTIVES
from trueup.config.trl_rows import Outcome, Values
from trueup.errors import InputError
from trueup.methods.method import METHODS, MethodInfo
from trueup.settings.schema import settings_in
from trueup.settings.validation import convert, one_of, shown

TRACKERS = ("tensorboard", "wandb", "trackio")
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup")
PRECISIONS = ("auto", "float32", "bfloat16")
ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw")
LORA = {"lora_r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout", "lora_target_modules": "targets"}
TRUST_REGION = {"ref_model_mixup_alpha": "alpha", "ref_model_sync_steps": "every"}
LOSS_IMPLIES: Mapping[str, Mapping[str, object]] = {"ipo": {"per_token": True}}
"""TRL's `loss_type` -> settings with which a method computes that loss as TRL does."""
LOSS_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "hinge": {"beta": 0.1},
    "robust": {"label_smoothing": 0.0},
}
"""TRL's `loss_type` -> defaults of TRL's DPOConfig that differ from those of our method; they hold unless given."""


def batch(values: Values, method: MethodInfo) -> Outcome:
    per_device, accumulation = "per_device_train_batch_size", "gradient_accumulation_steps"
    size = convert(int, per_device, values.get(per_device, 8))
    times = convert(int, accumulation, values.get(accumulation, 1))
    note = f"batch_size is {size * times}: {per_device} {size} times {accumulation} {times}, on one device"
    return Outcome({"batch_size": size * times}, (note,))


def length(values: Values, method: MethodInfo) -> Outcome:
    epochs = {"epochs": values["num_train_epochs"]} if "num_train_epochs" in values else {}
    if "max_steps" not in values or convert(int, "max_steps", values["max_steps"]) <= 0:
        return Outcome(epochs)
    over = ("num_train_epochs has no effect: max_steps goes before it",)
    return Outcome({"steps": values["max_steps"]}, over if epochs else ())


def schedule(values: Values, method: MethodInfo) -> Outcome:
    given = values["lr_scheduler_type"]
    if given not in SCHEDULES:
        raise InputError(f"lr_scheduler_type must be {one_of(SCHEDULES, given)}")
    return Outcome({"schedule": given.removesuffix("_with_warmup")})


def warm_up(values: Values, method: MethodInfo) -> Outcome:
    given = convert(float, "warmup_steps", values["warmup_steps"])
    if 0 < given < 1:
        return Outcome(
            {"warmup_ratio": given}, (f"warmup_steps {given:g}, below 1, is taken as warmup_ratio",)
        )
    return Outcome({"warmup_steps": values["warmup_steps"]})


def optimizer(values: Values, method: MethodInfo) -> Outcome:
    if values["optim"] in ADAMW:
        return Outcome(notes=("optim has no effect: the optimizer is AdamW",))
    raise InputError(
        f"optim {shown(values['optim'])} is not offered, only AdamW; to save memory, give lora.rank"
    )


def precision(values: Values, method: MethodInfo) -> Outcome:
    bf16 = _flag(values, "bf16")
    dtypes = {name: values[name] for name in ("dtype", "torch_dtype") if name in values}
    if _flag(values, "fp16") or "float16" in dtypes.values():
        raise InputError(
            "fp16 is not offered, as its range needs loss scaling: use bf16, or neither for fp32"
        )
    for name, dtype in dtypes.items():
        if dtype not in PRECISIONS:
            raise InputError(f"{name} must be {one_of(PRECISIONS, dtype)}")
    notes = tuple(f"{name}: weights are held in fp32; precision says what is computed in" for name in dtypes)
    if bf16 or (bf16 is None and "bfloat16" in dtypes.values()):
        return Outcome({"precision": "bf16"}, notes)
    return Outcome({} if bf16 is None else {"precision": "fp32"}, notes)


def lora(values: Values, method: MethodInfo) -> Outcome:
    inner = [name for name in values if name != "use_peft"]
    if not _flag(values, "use_peft"):
        return Outcome(notes=tuple(f"{name} has no effect without use_peft: true" for name in inner))
    return Outcome({"lora": True} | {f"lora.{LORA[name]}": values[name] for name in inner})


def moving_reference(values: Values, method: MethodInfo) -> Outcome:
    kinds = reference_kinds(method)
    always = kinds == ("trust-region",)
    sync = _flag(values, "sync_ref_model")
    if sync is False and always:
        still = [info.name for info in METHODS.values() if "frozen" in reference_kinds(info)]
        fitting = [name for name in still if METHODS[name].trl_loss == method.trl_loss] or still
        raise InputError(
            f"sync_ref_model is false, but the reference of method {method.name} always moves; "
            f"use method {' or '.join(fitting)}"
        )
    if sync and "trust-region" not in kinds:
        raise InputError(f"sync_ref_model is true, but method {method.name} needs no reference; leave it out")
    inner = [name for name in values if name != "sync_ref_model"]
    if not (sync or always):
        return Outcome(notes=tuple(f"{name} has no effect without sync_ref_model: true" for name in inner))
    kind = {} if always else {"reference.kind": "trust-region"}
    return Outcome(kind | {f"reference.{TRUST_REGION[name]}": values[name] for name in inner})


def cached_reference(values: Values, method: MethodInfo) -> Outcome:
    if not _flag(values, "precompute_ref_log_probs"):
        return Outcome()
    kinds = reference_kinds(method)
    if "cached" not in kinds:
        why = "has a reference that moves" if kinds else "needs no reference"
        raise InputError(f"precompute_ref_log_probs is true, but method {method.name} {why}; leave it out")
    return Outcome({"reference.kind": "cached"})


def loss_type(values: Values, method: MethodInfo) -> Outcome:
    given = values["loss_type"]
    losses = list(given) if isinstance(given, list | tuple) else [given]
    if len(losses) != 1:
        raise InputError(f"loss_type {shown(given)} is not offered: a method has one loss")
    loss = convert(str, "loss_type", losses[0])
    if "objective" in method.settings.model_fields and loss in OBJECTIVES:
        return Outcome({"objective": OBJECTIVES[loss]})
    fitting = [info.name for info in METHODS.values() if loss in (info.trl_loss, info.name)]
    if method.name in fitting:
        implied, defaults = LOSS_IMPLIES.get(loss, {}), LOSS_DEFAULTS.get(loss, {})
        return Outcome(
            implied,
            tuple(_as_in_trl(loss, name, value) for name, value in implied.items()),
            {name: (value, _as_in_trl(loss, name, value)) for name, value in defaults.items()},
        )
    instead = f"use method {' or '.join(fitting)}" if fitting else "`trueup methods` lists what there is"
    raise InputError(f"loss_type {loss} is not the loss of method {method.name}: {instead}")


def evaluation(values: Values, method: MethodInfo) -> Outcome:
    strategy = values.get("eval_strategy", values.get("evaluation_strategy", "steps"))
    return _cadence("eval", strategy, "eval_every", values)


def saving(values: Values, method: MethodInfo) -> Outcome:
    return _cadence("save", values.get("save_strategy", "steps"), "save_every", values)


def logging(values: Values, method: MethodInfo) -> Outcome:
    return _cadence("logging", values.get("logging_strategy", "steps"), "log_every", values)


def trackers(values: Values, method: MethodInfo) -> Outcome:
    given = values["report_to"]
    names = [given] if isinstance(given, str) else given
    if names in (["none"], ["all"], []):
        return Outcome({"trackers": list(TRACKERS) if names == ["all"] else []})
    for name in names if isinstance(names, list | tuple) else [names]:
        if name not in TRACKERS:
            raise InputError(f"report_to must be {one_of(('none', 'all', *TRACKERS), name)}")
    return Outcome({"trackers": list(names)})


def device(values: Values, method: MethodInfo) -> Outcome:
    return Outcome({"device": "cpu"} if any(_flag(values, name) for name in values) else {})


def assistant_turns(values: Values, method: MethodInfo) -> Outcome:
    return Outcome({"turns": "all"} if _flag(values, "assistant_only_loss") else {})


def resume(values: Values, method: MethodInfo) -> Outcome:
    if values["resume_from_checkpoint"] in (False, "false", "False"):
        return Outcome()
    raise InputError(f"resume_from_checkpoint is not read: use trueup train {method.name} --resume RUN")


def reference_kinds(method: MethodInfo) -> tuple[str, ...]:
    """The kinds of reference a method can take; empty where it needs none."""
    settings = settings_in(method.settings)
    return next((setting.choices for setting in settings if setting.path == "reference.kind"), ())


def _as_in_trl(loss: str, name: str, value: object) -> str:
    return f"loss_type {loss} is taken with {name} {str(value).lower()}, as in TRL"


def _cadence(what: str, strategy: object, ours: str, values: Values) -> Outcome:
    """`no`, `epoch` or `steps`, and the number of steps."""
    if strategy not in ("no", "steps", "epoch"):
        raise InputError(f"{what}_strategy must be {one_of(('no', 'steps', 'epoch'), strategy)}")
    steps = f"{what}_steps"
    if strategy == "steps":
        return Outcome({ours: values[steps]} if steps in values else {})
    note = f"{what}_strategy {strategy} has no effect: give {ours}, a number of steps"
    return Outcome(notes=(note,) if strategy == "epoch" or what == "logging" else ())


def _flag(values: Values, name: str) -> bool | None:
    return convert(bool, name, values[name]) if name in values else None
