"""What becomes of TRL's and transformers' names of settings: `trl_names.toml`, and what a plain row cannot say.

A name becomes one of our settings, or has no effect here, with a warning, or is refused with what to do instead. What a
file leaves out takes our defaults, not TRL's, unless it names the loss by TRL's `loss_type` and that loss has another
default there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from trueup import errors, files, metrics, words
from trueup.methods.method import METHODS, MethodInfo
from trueup.settings import annotator_settings, run_settings, validation

NAMES = files.table_beside(__file__, "trl_names.toml")
Values = Mapping[str, Any]
"""Values under the names of one row, none of them None."""


@dataclass(frozen=True, slots=True)
class Translated:
    """What became of names: `Translated({"epochs": 1}, (), {}, {"epochs": ("num_train_epochs",)})`."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Dotted setting -> value."""
    notes: tuple[str, ...] = ()
    unless_given: dict[str, tuple[Any, str]] = field(default_factory=dict)
    """Dotted setting -> a default of TRL's that differs from ours, and the note to make where it is taken."""
    made_from: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Dotted setting -> the names it was made from; filled in for all names together."""


@dataclass(frozen=True, slots=True)
class Row:
    """Names that are translated together, what becomes of them in words, and the rule, which raises to refuse."""

    names: tuple[str, ...]
    says: str
    rule: Callable[[Values, MethodInfo], Translated]

    @property
    def becomes(self) -> bool:
        """Whether a setting of ours can come of it."""
        return not self.says.startswith(("no effect", "refused"))


def flag(given: Values, name: str) -> bool | None:
    return validation.convert(bool, name, given[name]) if name in given else None


def several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def renamed(ours: str, given: Values, method: MethodInfo) -> Translated:
    return Translated(dict.fromkeys([ours], *given.values()))


def of_method(ours: str, given: Values, method: MethodInfo) -> Translated:
    ((name, value),) = given.items()
    if ours in method.settings.model_fields:
        return Translated({ours: value})
    if validation.same(value, False) or validation.same(value, 0):
        return Translated()
    raise errors.InputError(f"{name} is refused: method {method.name} has no such term; leave it out")


def no_effect(reason: str, given: Values, method: MethodInfo) -> Translated:
    return Translated(notes=tuple(f"{name} has no effect: {reason}" for name in given))


def refused(row: Sequence[Any], given: Values, method: MethodInfo) -> Translated:
    ((name, value),) = given.items()
    instead, harmless, methods = (*row, [], [])[:3]
    if any(validation.same(value, one) for one in harmless) or method.name in methods:
        return Translated()
    raise errors.InputError(f"{name} {words.as_given(value)} is not offered: {instead}")


def mapped(row: Sequence[Any], given: Values, method: MethodInfo) -> Translated:
    ((name, value),) = given.items()
    ours, values, *otherwise = row
    if ours not in method.settings.model_fields and otherwise:
        return refused(otherwise[0], given, method)
    if (key := str(value).lower()) not in values:
        raise errors.InputError(f"{name} must be {words.one_of(tuple(values), value)}")
    return Translated({ours: values[key]})


def idle(given: Values, switch: str, value: str = ": true") -> Translated:
    names = (name for name in given if name != switch)
    return Translated(notes=tuple(f"{name} has no effect without {switch}{value}" for name in names))


def switched(switch: str, given: Values, method: MethodInfo) -> Translated:
    row = NAMES["switched"][switch]
    inner = {ours: given[name] for name, ours in row["with"].items() if name in given}
    return Translated(row["sets"] | inner) if flag(given, switch) else idle(given, switch)


def cadence(row: Sequence[str], given: Values, method: MethodInfo) -> Translated:
    ours, steps = row
    what = steps.removesuffix("_steps")
    strategy = next((value for name, value in given.items() if name != steps), "steps")
    if strategy not in ("no", "steps", "epoch"):
        raise errors.InputError(f"{what}_strategy must be {words.one_of(('no', 'steps', 'epoch'), strategy)}")
    if strategy == "steps":
        return Translated({ours: given[steps]} if steps in given else {})
    note = f"{what}_strategy {strategy} has no effect: give {ours}, a number of steps"
    return Translated(notes=(note,) if strategy == "epoch" or what == "logging" else ())


def batch(given: Values, method: MethodInfo) -> Translated:
    per_device, accumulation = "per_device_train_batch_size", "gradient_accumulation_steps"
    size = validation.convert(int, per_device, given.get(per_device, 8))
    times = validation.convert(int, accumulation, given.get(accumulation, 1))
    note = f"batch_size is {size * times}: {per_device} {size} times {accumulation} {times}, on one device"
    return Translated({"batch_size": size * times}, (note,))


def length(given: Values, method: MethodInfo) -> Translated:
    epochs = {"epochs": given["num_train_epochs"]} if "num_train_epochs" in given else {}
    if "max_steps" not in given or validation.convert(int, "max_steps", given["max_steps"]) <= 0:
        return Translated(epochs)
    over = ("num_train_epochs has no effect: max_steps goes before it",)
    return Translated({"steps": given["max_steps"]}, over if epochs else ())


def warm_up(given: Values, method: MethodInfo) -> Translated:
    steps = validation.convert(float, "warmup_steps", given["warmup_steps"])
    if 0 < steps < 1:
        return Translated({"warmup_ratio": steps}, (f"warmup_steps {steps:g}, below 1, is taken as warmup_ratio",))
    return Translated({"warmup_steps": given["warmup_steps"]})


def precision(given: Values, method: MethodInfo) -> Translated:
    bf16 = flag(given, "bf16")
    dtypes = {name: value for name, value in given.items() if name.endswith("dtype")}
    if flag(given, "fp16") or "float16" in dtypes.values():
        raise errors.InputError("fp16 is not offered, as its range needs loss scaling: use bf16, or neither for fp32")
    for name, dtype in dtypes.items():
        if dtype not in (known := ("auto", "float32", "bfloat16")):
            raise errors.InputError(f"{name} must be {words.one_of(known, dtype)}")
    notes = tuple(f"{name}: weights are held in fp32; precision says what is computed in" for name in dtypes)
    if bf16 or (bf16 is None and "bfloat16" in dtypes.values()):
        return Translated({"precision": "bf16"}, notes)
    return Translated({} if bf16 is None else {"precision": "fp32"}, notes)


def data_set(given: Values, method: MethodInfo) -> Translated:
    return Translated({"data" if "offline" in method.sources else "prompts": given["dataset_name"]})


def temperature(given: Values, method: MethodInfo) -> Translated:
    value, ours = given["temperature"], "logit_temperature"
    divided = {ours: value} if ours in method.settings.model_fields else {}
    note = f"temperature {words.as_given(value)}: logits are divided by it where they are learned from too, as in TRL"
    return Translated({"sampler.temperature": value} | divided, (note,) if divided else ())


def loss_type(given: Values, method: MethodInfo) -> Translated:
    if len(losses := several(given["loss_type"])) != 1:
        raise errors.InputError(f"loss_type {words.as_given(given['loss_type'])} is not offered: a method has one loss")
    loss = validation.convert(str, "loss_type", losses[0])
    names = method.choices("objective")
    objectives = {loss: name for name in names for loss in METHODS[name].trl_loss.split()[:1]}
    if loss in objectives:
        return Translated({"objective": objectives[loss]})
    fitting = [info.name for info in METHODS.values() if loss in (*info.trl_loss.split(), info.name)]
    if method.name not in (*fitting, *NAMES["loss_with_options"].get(loss, ())):
        instead = f"use method {' or '.join(fitting)}" if fitting else "`trueup methods` lists what there is"
        raise errors.InputError(f"loss_type {loss} is not the loss of method {method.name}: {instead}")
    implied, defaults = NAMES["loss_implies"].get(loss, {}), NAMES["loss_defaults"].get(loss, {})
    taken = f"loss_type {loss} is taken with"
    notes = {name: f"{taken} {name} {str(value).lower()}, as in TRL" for name, value in {**implied, **defaults}.items()}
    unless_given = {name: (value, notes[name]) for name, value in defaults.items()}
    return Translated(implied, tuple(notes[name] for name in implied), unless_given)


def alpha(given: Values, method: MethodInfo) -> Translated:
    name = "f_alpha_divergence_coef"
    if "divergence" not in method.settings.model_fields:
        return no_effect("the loss has the reverse KL", given, method)
    return Translated({"alpha": 1 - validation.convert(float, name, given[name])})


def moving_reference(given: Values, method: MethodInfo) -> Translated:
    if method.choices("reference.kind") != ("trust-region",):
        return switched("sync_ref_model", given, method)
    if flag(given, "sync_ref_model") is False:
        same_loss = "the method of that loss whose reference stays (`trueup methods`)"
        raise errors.InputError(f"sync_ref_model is false, but the reference of {method.name} moves; use {same_loss}")
    made = switched("sync_ref_model", {**given, "sync_ref_model": True}, method).settings
    return Translated({name: value for name, value in made.items() if name != "reference.kind"})


def trackers(given: Values, method: MethodInfo) -> Translated:
    names, known = several(given["report_to"]), list(metrics.TRACKERS)
    if names in (["none"], ["all"], []):
        return Translated({"trackers": known if names == ["all"] else []})
    if unknown := [name for name in names if name not in known]:
        raise errors.InputError(f"report_to must be {words.one_of(('none', 'all', *known), unknown[0])}")
    return Translated({"trackers": names})


def best(given: Values, method: MethodInfo) -> Translated:
    name = validation.convert(str, "metric_for_best_model", given.get("metric_for_best_model", "loss"))
    metric = name if name.startswith(("eval_", "online/")) else f"eval_{name}"
    better = metrics.FIGURES.get(metric.removeprefix("eval_"), ("", "", ""))[1]
    greater = flag(given, "greater_is_better")
    if better and greater not in (None, better == metrics.GREATER):
        which = f"of {metric} the {'greater' if better == metrics.GREATER else 'lesser'} value is better"
        raise errors.InputError(f"greater_is_better {words.as_given(greater)} is refused: {which}")
    patience, load = "early_stopping_patience", "load_best_model_at_end"
    inner = {"early_stopping": given[patience]} if patience in given else {}
    if flag(given, load):
        return Translated({"keep_best": metric} | inner)
    if inner and metric != "eval_loss":
        raise errors.InputError(f"early_stopping_patience by {metric} is not offered without {load}: true")
    return Translated(inner) if inner else idle(given, load)


def reward(given: Values, method: MethodInfo) -> Translated:
    if "reward_funcs" not in given:
        return idle(given, "reward_funcs", "")
    names, weights = several(given["reward_funcs"]), several(given.get("reward_weights", 1))
    if len(names) == 1 and validation.convert(float, "reward_weights", weights[0]) == 1:
        return Translated({"reward": names[0]})
    made = {"annotator": "weighted", "annotator.of": [annotator_settings.reward_layer(str(name)) for name in names]}
    return Translated(made | ({"annotator.weights": weights} if "reward_weights" in given else {}))


def vllm(given: Values, method: MethodInfo) -> Translated:
    mode = given.get("vllm_mode", "colocate")
    if not flag(given, "use_vllm"):
        return idle(given, "use_vllm")
    if mode not in ("server", "colocate"):
        raise errors.InputError(f"vllm_mode must be {words.one_of(('server', 'colocate'), mode)}")
    if mode == "colocate":
        raise errors.InputError(
            "use_vllm with vllm_mode colocate is not offered: start vllm serve, and give vllm_mode server"
        )
    host, port = given.get("vllm_server_host", "localhost"), given.get("vllm_server_port", 8000)
    url = str(given.get("vllm_server_base_url", f"http://{host}:{port}")).rstrip("/")
    return Translated({"sampler.engine": "server", "sampler.base_url": f"{url.removesuffix('/v1')}/v1"})


def rows() -> Iterator[Row]:
    """Every row of the table."""
    plain: dict[str, tuple[Callable[[str, Values, MethodInfo], Translated], str]] = {
        "renamed": (renamed, "`{}`"),
        "of_method": (of_method, "`{}` of methods that have it"),
        "no_effect": (no_effect, "no effect: {}"),
    }
    for kind, (rule, says) in plain.items():
        for key, names in NAMES[kind].items():
            yield from (Row((name,), says.format(key), partial(rule, key)) for name in names.split())
    for names, *row in NAMES["refused"]:
        allowed = ", ".join(f"`{words.as_given(value).lower()}`" for value in (*row, [])[1])
        says = f"refused{f' unless {allowed}' if allowed else ''}: {row[0]}"
        yield from (Row((name,), says, partial(refused, row)) for name in names.split())
    for name, *row in NAMES["mapped"]:
        told = f"`{row[0]}`: {', '.join(f'{value} of {theirs}' for theirs, value in row[1].items()).lower()}"
        for instead, harmless in row[2:]:
            told += f"; of methods without it refused unless `{harmless[0]}`: {instead}"
        yield Row((name,), told, partial(mapped, row))
    for switch, row in NAMES["switched"].items():
        sets = (f"`{ours}: {str(value).lower()}`" for ours, value in row["sets"].items())
        inner = (f"`{ours}`" for ours in row["with"].values())
        rule = globals()[row["rule"]] if "rule" in row else partial(switched, switch)
        yield Row((switch, *row["with"]), f"{', '.join([*sets, *inner])} if {switch} is true", rule)
    for ours, names in NAMES["cadences"].items():
        yield Row(tuple(names.split()), f"`{ours}`, if in steps", partial(cadence, (ours, names.split()[-1])))
    for name, (names, says) in NAMES["rules"].items():
        yield Row(tuple(names.split()), says, globals()[name])


TABLE = tuple(sorted(rows(), key=lambda row: row.names))


def rows_for(method: MethodInfo) -> list[Row]:
    """The table without names that the method itself has as settings."""
    return [row for row in TABLE if not set(row.names) & set(method.settings.model_fields)]


def names_of_trl(method: MethodInfo | None = None) -> tuple[str, ...]:
    """Every name in the table that is not also a name of ours; or those alone that a method makes something of."""
    names = [name for row in TABLE if method is None or row.becomes for name in row.names]
    ours, terms = {*run_settings.RunSettings.model_fields}, NAMES["of_method"]
    for name in () if method is None else terms.keys() - method.settings.model_fields.keys():
        ours.update(terms[name].split())
    return tuple(name for name in names if name not in ours)


def translate(values: Mapping[str, Any], method: MethodInfo) -> Translated:
    """Translate the values that stand under TRL's names; a name that is also ours passes untouched."""
    given = {name: value for name, value in values.items() if value is not None}
    result = Translated()
    notes: list[str] = []
    refusals: list[validation.SettingProblem] = []
    for row in rows_for(method):
        chosen = {name: given[name] for name in row.names if name in given}
        if not chosen:
            continue
        try:
            outcome = row.rule(chosen, method)
        except errors.InputError as error:
            refusals.append(validation.SettingProblem(next(iter(chosen)), str(error)))
            continue
        notes += outcome.notes
        result.unless_given.update(outcome.unless_given)
        for setting, value in outcome.settings.items():
            if setting in result.settings and not validation.same(result.settings[setting], value):
                names = " and ".join((*result.made_from[setting], *chosen))
                told = f"{names} contradict each other: each sets {setting}"
                refusals.append(validation.SettingProblem(setting, told))
            result.settings[setting] = value
            result.made_from[setting] = tuple(chosen)
    if refusals:
        raise validation.SettingsError(refusals)
    return replace(result, notes=tuple(notes))
