"""Whether a run can be: its settings fit its method, and what they name is there; known before anything is paid for."""

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from trueup import metrics, model_folder, python_objects, words
from trueup.config.layers import differences, flatten, nest
from trueup.errors import InputError
from trueup.feedback import containers, tables
from trueup.methods.method import MethodInfo, reference_of
from trueup.parallel import processes
from trueup.references.choices import TrustRegion
from trueup.settings import annotator_settings, data_settings, gathering_settings, run_settings

INSTEAD = {
    "offline": "give source offline with data",
    "online": "give source online with prompts and an annotator or a reward",
    "replay": "source replay with the examples.jsonl of an online run as data",
}
FEEDBACK = "a file with feedback, hub:OWNER/NAME, or world:pairs, world:rankings, ..."
PROMPTS = "a file with prompts or feedback, hub:OWNER/NAME, or world:prompts"


def refuse_source(info: MethodInfo, source: object) -> None:
    if not isinstance(source, str) or source not in INSTEAD or source in info.sources:
        return  # a word that is no source at all is refused where settings are typed
    learns = "feedback gathered beforehand" if "offline" in info.sources else "responses it samples itself"
    instead = ", or ".join(INSTEAD[one] for one in info.sources)
    raise InputError(f"source {source} is refused, as method {info.name} learns from {learns}: {instead}")


def refuse_misfit(info: MethodInfo, method_settings: BaseModel, settings: run_settings.RunSettings) -> None:
    if settings.reward_kl and "kl_coef" in type(method_settings).model_fields:
        raise InputError(f"reward_kl is refused, as method {info.name} has its own penalty: give kl_coef instead")
    if settings.eval_data and not info.evaluates:
        own = f"method {info.name} learns from responses of its own"
        raise InputError(f"eval_data: {own}. Leave it out; online/score and objective/kl say how the run goes")
    if settings.best_by is not None:
        _refuse_metric(info, settings, settings.best_by)
    _refuse_adapter(method_settings, settings)
    if settings.source != "offline":
        _refuse_what_needs_all(info, method_settings, settings.source)
    if settings.source == "online" or (settings.prompts and settings.source == "offline"):
        _refuse_gathering(info, settings)
    elif settings.source == "offline":
        _refuse_unused(info, settings)


def _refuse_metric(info: MethodInfo, settings: run_settings.RunSettings, metric: str) -> None:
    """Refuse a metric of the best step that the run does not measure, or once only, or of which no value is better."""
    figures = (*(info.figures if info.evaluates else ()), *(["online/score"] if "online" in info.sources else ()))
    better = [name for name in figures if metrics.FIGURES.get(name, ("", "", ""))[1]]
    scored = settings.annotator is not None and settings.annotator.gives == "scores"
    sampled = settings.sampled_metrics
    allowed = [*sampled, *(name if name == "online/score" else f"eval_{name}" for name in better)]
    what = "keep_best" if settings.keep_best else "early_stopping"
    if metric not in allowed:
        known = ", ".join(allowed)
        raise InputError(f"{what}: method {info.name} has no {metric} to go by; give one of {known}")
    if metric == "online/score":
        if settings.source != "online" or not scored:
            needs = "needs source online and a reward; or give a metric of held-out feedback"
            raise InputError(f"{what}: online/score {needs}")
        if settings.sampler.resync > 1:
            lag = f"online/score lags behind with sampler.resync {settings.sampler.resync}"
            raise InputError(f"{what}: {lag}; give resync 1, or a metric of held-out feedback")
    elif settings.eval_every is None or not (settings.eval_data or settings.eval_fraction or metric in sampled):
        parts = "eval_data or eval_fraction" if settings.source == "offline" else "eval_data"
        raise InputError(f"{what}: {metric} is measured in training; give held-out feedback ({parts}), and eval_every")


def _refuse_adapter(method_settings: BaseModel, settings: run_settings.RunSettings) -> None:
    reference, lora = reference_of(method_settings), settings.lora
    if lora and lora.dora and isinstance(reference, TrustRegion) and reference.alpha < 1:
        alpha = f"reference.alpha {reference.alpha:g} is refused under lora.dora, whose norms have no exact mean"
        raise InputError(f"{alpha}; give reference.alpha 1, or leave lora.dora out")
    names = ("dora", "modules_to_save", "rank_pattern", "alpha_pattern")
    odd = [name for name in names if lora and getattr(lora, name)]
    if odd and settings.gathers and settings.sampler.engine == "server":
        plain = "as vLLM takes plain adapters alone; leave one of them out"
        raise InputError(f"lora.{odd[0]} is refused with sampler.engine server, {plain}")


def _refuse_what_needs_all(info: MethodInfo, method_settings: BaseModel, source: str) -> None:
    reference = reference_of(method_settings)
    if reference.needs_all_data:
        kind = f"reference.kind {reference.kind} is computed before training"
        raise InputError(f"{kind}, and refused when source is {source}; take reference.kind frozen")
    if measured := info.measures(method_settings):
        what, _, instead = measured.partition("; ")
        raise InputError(f"method {info.name} measures {what} before training, not with source {source}: {instead}")


def _refuse_gathering(info: MethodInfo, settings: run_settings.RunSettings) -> None:
    assert settings.annotator is not None  # the settings themselves see to that
    kind, compares = settings.annotator.kind, settings.annotator.gives == "comparisons"
    if info.needs_scores and compares:
        needs = f"annotator {kind} compares responses, and method {info.name} needs their scores"
        raise InputError(f"{needs}: give as reward {annotator_settings.REWARD_FORMS}")
    sampler = settings.sampler
    if sampler.models and "offline" not in info.sources:
        raise InputError(f"sampler.models is refused: method {info.name} learns from its own samples; leave it out")
    if info.opponent and (sampler.served or sampler.responses > 1 or sampler.decode != "sample"):
        draws = f"method {info.name} draws one response of the policy and one of its reference, in this process"
        raise InputError(f"{draws}; leave sampler.engine, sampler.responses and sampler.decode out")
    responses = sampler.responses * (1 + len(sampler.models) + info.opponent)
    if responses < info.least_responses:
        needs = f"method {info.name} needs at least {info.least_responses} responses to each prompt"
        raise InputError(f"{needs}, and sampler.responses is {sampler.responses}; give more")
    if compares and responses < 2:
        raise InputError(f"annotator {kind} compares responses: give sampler.responses 2 or more")


def _refuse_unused(info: MethodInfo, settings: run_settings.RunSettings) -> None:
    of_method = nest(flatten(info.defaults)).get("sampler", {})
    default = vars(gathering_settings.SamplerSettings(**of_method))
    differing = [name for name, one in vars(settings.sampler).items() if one != default[name]]
    used = ("max_new_tokens",) if settings.eval_prompts else ()
    if changed := [f"sampler.{one}" for one in differing if one not in used]:
        raise InputError(f"{', '.join(changed)}: nothing is sampled; give prompts and an annotator, or leave it out")


def check_inputs(settings: run_settings.RunSettings) -> run_settings.RunSettings:
    check_output(settings.output)
    check_processes(settings)
    parts, held_out = [[*map(data_settings.part_of, names)] for names in (settings.data, settings.eval_data)]
    if not all(part.taken_as_it_is for part in parts) and (settings.source != "offline" or settings.prompts):
        raise InputError("data: weight and limit are refused where a run samples or replays; leave them out")
    for name in (part.name for part in (*parts, *held_out)):
        if not name.startswith(f"{model_folder.WORLD}:"):
            check_feedback(name)
    if settings.chat_template is not None:
        check_file(settings.chat_template, "a file with a Jinja chat template")
    found: dict[str, Any] = {} if settings.source == "replay" else _check_gathering(settings)
    trust_remote_code = settings.trust_remote_code
    if settings.model != model_folder.WORLD:
        found["model"] = model_folder.check_model(settings.model, trust_remote_code=trust_remote_code)
        _check_4_bits(settings, model_folder.folder_of(found["model"]))
    changed = {name: one for name, one in found.items() if one != vars(settings)[name]}
    return settings.model_copy(update=changed)


def refuse_unlike(told: dict[str, Any]) -> None:
    """Refuse where a process was given, or read, something else than the first one: nothing else would tell of it."""
    first, *others = processes.gather(told)
    for number, other in enumerate(others, 1):
        if unlike := differences(first, other, f"process 0: {{}}, process {number}: {{}}"):
            raise processes.shared(
                InputError(
                    f"process {number} was started with something else than process 0: {'; '.join(unlike.values())}. "
                    "Give all the same command, files and versions"
                )
            )


def check_processes(settings: run_settings.RunSettings) -> None:
    """Refuse what several processes cannot do; nothing where there is one."""
    processes.inside(settings.parallel.shard, settings.parallel.replicate)
    if processes.size() > 1 and settings.optimizer == "muon":
        raise InputError("optimizer muon needs whole matrices, and works in one process; give optimizer adamw")
    if processes.size() > 1 and settings.compile:
        raise InputError("compile works in one process; leave it out")


def _check_4_bits(settings: run_settings.RunSettings, folder: str) -> None:
    if not settings.quantize and not model_folder.is_quantized(model_folder.base_folder(folder)):
        return
    if processes.size() > 1:
        raise InputError(f"{settings.model}: weights in 4 bits are not sharded; start one process alone")
    if settings.lora is None and not model_folder.is_adapter(folder):
        raise InputError(f"{settings.model}: weights in 4 bits are not trained; give lora.rank, for an adapter on them")
    model_folder.refuse_without_package(f"quantize {settings.quantize}" if settings.quantize else folder)


def _check_gathering(settings: run_settings.RunSettings) -> dict[str, Any]:
    for name in settings.prompts:
        if not name.startswith(f"{model_folder.WORLD}:"):
            check_feedback(name, PROMPTS)
    trust_remote_code = settings.trust_remote_code
    models = tuple(_check_folder("sampler.models", one, trust_remote_code) for one in settings.sampler.models)
    for folder in models:
        if model_folder.scores_text(model_folder.folder_of(folder)):
            raise InputError(f"sampler.models: {folder} is a reward model, and writes nothing; leave it out")
    if settings.sampler.transfer == "nccl" and settings.lora is None and find_spec("vllm") is None:
        missing = "sampler.transfer nccl needs the package vllm, which is not installed"
        raise InputError(f"{missing}: pip install trueup[vllm], or leave sampler.transfer out")
    found: dict[str, Any] = {"sampler": settings.sampler.model_copy(update={"models": models})}
    if settings.annotator is not None:
        least = settings.watch.accuracy
        found["annotator"] = check_annotator(settings.annotator, trust_remote_code=trust_remote_code, least=least)
    return found


def check_output(folder: str) -> None:
    path = Path(folder)
    if (path / "run.yaml").exists():
        go_on = f"go on with it by --resume {folder}, or give another output"
        raise InputError(f"{folder} holds a run already: {go_on}")
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise InputError(f"output {folder}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output {folder}: {existing} cannot be written by this user")


Choice = annotator_settings.AnnotatorChoice


def check_annotator(
    choice: Choice, *, trust_remote_code: bool, least: float = run_settings.WatchSettings().accuracy
) -> Choice:
    """Check what an annotator is made of; return the choice, a model of the hub with its commit.
    Warns of a reward model that orders less than the share `least` of its pairs rightly."""
    about, given, checked = choice.about, vars(choice), cast("Any", choice)
    if isinstance(choice, annotator_settings.Several):
        every = (check_annotator(one, trust_remote_code=trust_remote_code, least=least) for one in choice.of)
        checked = replace(checked, of=tuple(every))
    if about.weights is not None:
        whose = f"annotator.kind {choice.kind}"
        name = _check_weights(about.weights, given[about.main], whose, trust_remote_code)
        checked = replace(checked, **{about.main: name})
        if about.weights == "reward model" and (weak := model_folder.at_chance(name, least)):
            words.logger.warning(f"{weak}; what is made of its scores will be no better. Train a better one")
    for setting, named in about.files.items():
        if (name := given[setting]) is None:
            continue
        if named.function and not annotator_settings.is_function(name):
            raise InputError(f"annotator.{setting} {words.as_given(name)} names no function; give {named.give}")
        if name.startswith(python_objects.PREFIX):
            python_objects.held(name)
        elif name not in named.known:
            check_file(named.path(name), named.give + words.did_you_mean(name, named.known))
    if isinstance(choice, annotator_settings.JuryAnnotator) and choice.gold:
        from trueup.annotators import jury  # which loads numpy

        jury.gold_pairs(choice.gold)
    made: Choice = checked
    return made


def _check_weights(weights: str, folder: str, whose: str, trust_remote_code: bool) -> str:
    scores = weights == "reward model"
    if scores and folder == model_folder.WORLD:
        raise InputError("the world has no reward model of its own; give world:gold or world:proxy")
    if scores and not Path(folder).exists() and "/" not in folder:
        raise InputError(f"reward model {folder} is not a folder; give {annotator_settings.REWARD_FORMS}")
    named = _check_folder(whose, folder, trust_remote_code)
    if scores == model_folder.scores_text(model_folder.folder_of(named)):
        return named
    if not scores:
        raise InputError(f"{whose} needs a causal language model, and {folder} is a reward model; give reward:{folder}")
    instead = f"give likelihood:{folder}, or make one by trueup train reward-model"
    raise InputError(f"{folder} is a language model, no reward model (a classifier with one output); {instead}")


def _check_folder(whose: str, folder: str, trust_remote_code: bool) -> str:
    if folder == model_folder.WORLD:
        return folder
    try:
        return model_folder.check_model(folder, trust_remote_code=trust_remote_code)
    except InputError as error:
        raise InputError(f"{whose}: {error}") from None


def check_feedback(name: str, what: str = FEEDBACK) -> None:
    path = Path(name)
    if tables.is_hub(name) or tables.is_saved(path) or name.startswith(python_objects.PREFIX):
        containers.refuse_unreadable(name)
    elif path.is_dir():
        raise InputError(f"{name} is a folder; name a file{containers.inside(path)}")
    else:
        check_file(name, what)


def check_file(name: str, what: str) -> None:
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name} is a folder; give {what}")
    if not path.exists():
        raise InputError(f"{name}: no such file{containers.absent_hint(path)}; give {what}")
    if not os.access(path, os.R_OK):
        raise InputError(f"{name} cannot be read by this user")


def weak_reward(settings: run_settings.RunSettings) -> str:
    """See `model_folder.at_chance`, of the reward model that a run asks; empty where it asks none."""
    if settings.annotator is None or settings.source == "replay":
        return ""
    every = annotator_settings.annotators_in(settings.annotator).values()
    folders = [vars(one)[one.about.main] for one in every if one.about.weights == "reward model"]
    return next(filter(None, (model_folder.at_chance(one, settings.watch.accuracy) for one in folders)), "")
