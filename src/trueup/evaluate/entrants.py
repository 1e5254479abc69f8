"""What the names given to `trueup evaluate` stand for, and the responses of all to the same prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from trueup import errors, model_folder, model_hub, words
from trueup.config import resolve, run_checks
from trueup.feedback import records, turns
from trueup.gathering import candidates, resumable
from trueup.sampling.sampler import MAX_NEW_TOKENS
from trueup.settings import annotator_settings, gathering_settings
from trueup.sources.by_name import examples_named, model_folders, prompts_named
from trueup.training import checkpoint, publish

Settings = gathering_settings.EvaluateSettings


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model that can be asked, or the responses that a file holds of one."""

    name: str
    read: candidates.Read | None = None
    identity: Any = None
    run: resolve.Resolved | None = None
    step: int | None = None
    written: Mapping[str, tuple[records.Prompt, list[records.Response]]] = field(default_factory=dict)
    """Of a file, by the key of the prompt."""


def sampling_of(settings: Settings) -> gathering_settings.SampleSettings:
    shared = gathering_settings.SampleSettings.model_fields.keys() & type(settings).model_fields.keys()
    given = {name: getattr(settings, name) for name in shared}
    return gathering_settings.SampleSettings(model=(model_folder.WORLD,), data=(model_folder.WORLD,), **given)


def entrants_of(settings: Settings) -> list[Entrant]:
    found: list[Entrant] = []
    for name in settings.models:
        there = Path(name).exists()
        if name == model_folder.WORLD or Path(name).is_dir() or (model_hub.is_hub_model(name) and not there):
            found.append(model_of(name, settings))
        else:
            run_checks.check_feedback(name, "a run, a checkpoint, a model, or a file with responses")
            found += _writers(name, settings)
    return found


def model_of(name: str, settings: Settings) -> Entrant:
    """The model that a name stands for, which must not be a reward model."""
    place = publish.locate(name)
    folder, step = place.run, place.step
    run = None if folder is None else resolve.load_run(folder.path)
    scores = run is not None and run.info.configure(run.method_settings).output == "scores"
    if place.model is None and folder is not None and not scores:
        if step is None:
            kept = sorted(folder.checkpoints.glob(f"{checkpoint.PREFIX}*"))
            if not kept:
                raise errors.InputError(f"{name}: the run has no checkpoint yet; go on with it first")
            step, total = int(kept[-1].name[len(checkpoint.PREFIX) :]), folder.read_status().get("steps")
            words.logger.warning(f"{name} is not done: it is taken as it was after step {step} of {total}")
        identity = model_folder.model_content(folder.checkpoints / f"{checkpoint.PREFIX}{step:08d}")

        def read(device: Any) -> Any:
            trust_remote_code = settings.trust_remote_code
            return publish.restored(folder, step, trust_remote_code=trust_remote_code, device=device)[0]

        return Entrant(name, read, identity, run, step)
    path = place.model or name
    if path != model_folder.WORLD:
        path = model_folder.check_model(path, trust_remote_code=settings.trust_remote_code)
        if scores or model_folder.scores_text(model_folder.folder_of(path, weights=False)):
            raise errors.InputError(f"{name} is a reward model, and writes nothing; give its folder as --reward")
    content = [path == model_folder.WORLD, *map(model_folder.model_content, model_folders(path))]
    return Entrant(name, candidates.model_in(sampling_of(settings), path), content, run)


def reference_of(model: Entrant, settings: Settings) -> Entrant | None:
    """What divergence from is measured: the model given for it, or that the run began with; None without."""
    if settings.reference is not None:
        return model_of(settings.reference, settings)
    if model.run is None:
        return None
    try:
        return model_of(model.run.settings.model, settings)
    except errors.InputError as error:
        words.logger.warning(f"{model.name}: no divergence is measured: {error}; or give another --reference")
        return None


def _writers(name: str, settings: Settings) -> list[Entrant]:
    found: dict[str | None, dict[str, tuple[records.Prompt, list[records.Response]]]] = {}
    for example in examples_named([name], settings, skip_bad=settings.skip_bad, chat=settings.chat).examples:
        for one in example.responses:
            known = found.setdefault(one.source, {})
            known.setdefault(example.prompt.key, (example.prompt, []))[1].append(one)
    names = {source: name if len(found) == 1 else f"{name}:{source}" for source in found}
    return [Entrant(names[source], written=known) for source, known in found.items()]


def prompts_of(settings: Settings, everyone: Sequence[Entrant]) -> Sequence[records.Prompt]:
    """What is asked, or what files have responses to: prompts that all files have enough responses to."""
    files, need = [one for one in everyone if one.read is None], settings.sampler.responses
    if not settings.prompts and not files:
        raise errors.InputError("prompts is required, to ask the models: files with prompts, or world:prompts")
    written = {key: prompt for one in files for key, (prompt, _) in one.written.items()}
    found: Sequence[records.Prompt] = list(written.values())
    if settings.prompts:
        rules: dict[str, Any] = {"skip_bad": settings.skip_bad, "chat": settings.chat}
        found = prompts_named(settings.prompts, settings, **rules).prompts
    for one in files:
        counts = [len(one.written[prompt.key][1]) if prompt.key in one.written else 0 for prompt in found]
        kept = [prompt for prompt, number in zip(found, counts, strict=True) if number >= need]
        if missing := len(found) - len(kept):
            words.logger.warning(f"{one.name} has no response to {missing} of {len(found)} prompts: left out of all")
        if more := sum(number > need for number in counts):
            told = f"more than {need} responses to {more} prompts"
            words.logger.warning(f"{one.name} has {told}; --responses takes more")
        if not kept:
            lacks = f"has {words.counted(need, 'response')} to none of the {len(found)} prompts of the others"
            raise errors.InputError(f"{one.name} {lacks}; give responses to the same prompts, equal to the letter")
        found = kept
    if not found:
        raise errors.InputError("there is no prompt to ask; give --prompts with some rows")
    return found[: settings.count]


def tell_cost(settings: Settings, everyone: Sequence[Entrant], prompts: int, pairs: int) -> None:
    each, models = prompts * settings.sampler.responses, sum(one.read is not None for one in everyone)
    longest = settings.sampler.max_new_tokens or MAX_NEW_TOKENS
    responses = words.counted(models * each, "response")
    words.logger.info(f"to draw: {responses} of at most {longest} tokens to {words.counted(prompts, 'prompt')}")
    if settings.judge is not None:
        compared, rated, judge = each * pairs, each * len(everyone) * len(settings.rate), settings.judge
        if isinstance(judge, annotator_settings.JuryAnnotator) and judge.gold:
            compared += round(judge.gold_share * compared)
        judges = annotator_settings.annotators_in(judge).values()
        served = sum(one.about.asker is not None for one in judges)
        by = f" by {len(judges)} judges" if len(judges) > 1 else ""
        most = f": at most {words.counted(2 * served * (compared + rated), 'request')}" if served else ""
        told = f"{words.counted(compared, 'pair')} and {words.counted(rated, 'rating')}"
        words.logger.info(f"to judge: {told}, each in both orders{by}{most}")
    if settings.reward is not None:
        words.logger.info(f"to score: {words.counted(each * len(everyone), 'response')}")


def answers_of(
    settings: Settings, everyone: Sequence[Entrant], prompts: Sequence[records.Prompt], work: resumable.Work
) -> list[list[records.Example]]:

    def of_file(one: Entrant) -> list[tuple[records.Response, ...]]:
        return [tuple(one.written[prompt.key][1][: settings.sampler.responses]) for prompt in prompts]

    given = [_sampled(settings, one, prompts, work) if one.read else of_file(one) for one in everyone]
    kept = [at for at in range(len(prompts)) if all(several[at] for several in given)]
    if missing := len(prompts) - len(kept):
        words.logger.warning(f"{words.counted(missing, 'prompt')} left out of all: too long for one of the models")
    if not kept:
        give = "Give a smaller --max-new-tokens, or shorter prompts"
        raise errors.InputError(f"no prompt leaves room for a response of every model. {give}")
    return [[records.Example(prompts[at], several[at]) for at in kept] for several in given]


def _sampled(
    settings: Settings, model: Entrant, prompts: Sequence[records.Prompt], work: resumable.Work
) -> list[tuple[records.Response, ...]]:
    assert model.read is not None
    sampling, responses = sampling_of(settings), settings.sampler.responses
    decides = [model.identity, resumable.deciding(sampling), [one.key for one in prompts]]
    part = f"sample {resumable.digest(decides)[:16]}"
    load = partial(candidates.in_process, sampling, model.name, work.day, len(prompts), model.read)
    writer = candidates.Writer(model.name, load, part)
    written = candidates.write_responses(prompts, writer, work, responses=responses, seed=settings.seed)
    found = []
    for prompt, said in zip(prompts, written, strict=True):
        texts = [one.text if isinstance(prompt.content, str) else turns.as_messages(one.text) for one in said]
        both = zip(texts, said, strict=True)
        found.append(tuple(records.Response(text, tokens=one.ids) for text, one in both))
    return found
