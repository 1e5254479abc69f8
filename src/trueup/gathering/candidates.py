"""Candidates for a file of prompts or of feedback: written by several models, judged if asked, and put together.
Models write one after the other, and each piece is kept as soon as it is there."""

import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from trueup import errors, model_folder
from trueup.batch import chat_template, encode
from trueup.config.run_checks import check_annotator, check_file
from trueup.feedback import read, records, transforms, turns, views
from trueup.feedback.records import Content, Example, Prompt, Response, content_key
from trueup.gathering import shards
from trueup.gathering.judging import Day, annotator_loader, judge
from trueup.gathering.resumable import Work, check_place, of_sampling, resumable
from trueup.models import causal, load, prepare, tokenizer
from trueup.sampling.engines import make_engine
from trueup.sampling.sampler import Sampled, Sampler
from trueup.settings.gathering_settings import SampleSettings
from trueup.sources.by_name import model_named, prompts_named
from trueup.words import counted, logger, numbered

CHUNK = 32  # prompts sampled before their responses are kept: what a process that is killed may have to do again
UNLIMITED = 10**9

Read = Callable[[torch.device], load.Loaded]


@dataclass(frozen=True, slots=True)
class Writer:
    name: str
    load: Callable[[], AbstractContextManager[Sampler]]
    """Its sampler; called only where something is left to write, and left before the next model is loaded."""
    part: str  # name of its part of the work, of which its seeds are made


Written = Sequence[tuple[Sampled, ...]]
"""What one model wrote, in the order of the prompts; nothing where a prompt left no room for a response."""


def sample(settings: SampleSettings) -> Path:
    """Write the candidates that settings ask for; what an earlier call with the same settings did is not done again.
    InputError: something that was given cannot be used. AnnotatorError: a server or an annotator fails, or a model
    writes nothing but empty responses. Stopped: the user asked to stop."""
    settings = _checked(settings)
    load = annotator_loader(settings, settings.annotator) if settings.annotator is not None else None
    output = Path(settings.output)
    given = _given(settings)
    rows = shards.rows_of(settings.shard, total := len(given.prompts))
    own = read.Prompts(given.prompts[rows.start : rows.stop], given.examples)
    decides = of_sampling(settings, given.prompts, given.examples)
    with resumable(output, "trueup sample", decides, rows.start) as work:
        examples = _candidates(settings, own, work, total)
        if load is not None:
            by_prompt = {id(one.prompt): one for one in examples}
            examples = judge([by_prompt.get(id(one)) for one in own.prompts], load, work, output).kept
        if settings.best:
            examples = best_of_each(examples)
        number = shards.write(output, examples, work, settings.shard, rows, total)
        work.finish()
    responses = sum(len(one.responses) for one in examples)
    logger.info(f"{counted(responses, 'response')} to {counted(number, 'prompt')} written to {output}")
    return output


def _checked(settings: SampleSettings) -> SampleSettings:
    """The settings, each model of the hub with its commit, found right before anything is loaded."""
    check_place(settings.output, overwrite=settings.overwrite)
    server, trust_remote_code = settings.sampler.served, settings.trust_remote_code
    models = tuple(
        one
        if one == model_folder.WORLD
        else model_folder.check_model(one, trust_remote_code=trust_remote_code, weights=not server)
        for one in settings.model
    )
    for name in models:
        if model_folder.scores_text(model_folder.folder_of(name, weights=False)):
            raise errors.InputError(
                f"model {name} is a reward model, and writes nothing; give it as --annotator reward:{name}"
            )
    if settings.chat_template is not None:
        check_file(settings.chat_template, "a file with a Jinja chat template")
    judge = settings.annotator and check_annotator(settings.annotator, trust_remote_code=trust_remote_code)
    return settings.model_copy(update={"model": models, "annotator": judge})


def _given(settings: SampleSettings) -> read.Prompts:
    """The prompts to ask, and what the data hold on these very prompts, where it is to be kept."""
    found = prompts_named(settings.data, settings, skip_bad=settings.skip_bad, chat=settings.chat)
    prompts = found.prompts[: settings.count]
    keys = {one.key for one in prompts}
    also = [one for one in found.examples if settings.keep_responses and one.prompt.key in keys]
    return read.Prompts(prompts, tuple(also))


def _candidates(settings: SampleSettings, given: read.Prompts, work: Work, total: int) -> tuple[Example, ...]:
    if model_folder.WORLD in settings.model:
        model_named(model_folder.WORLD)  # made before the bar over what is asked of it
    writers = make_writers(settings, total, work.day)
    vocabularies = set(map(partial(_vocabulary, settings), settings.model if len(settings.model) > 1 else ()))
    if len(vocabularies) > 1:
        logger.info("the models have different tokenizers, so that no token ids are stored")
    rest: dict[str, int] = {"responses": settings.sampler.responses, "seed": settings.seed}
    written = [write_responses(given.prompts, one, work, **rest) for one in writers]
    examples = put_together(given.prompts, written, given.examples, with_tokens=len(vocabularies) < 2)
    if not examples and work.alone:
        raise errors.InputError(
            f"no prompt of {len(given.prompts)} got a response: none leaves room for one. Give a smaller "
            "--max-new-tokens, or --max-prompt-length so that long prompts lose their beginning"
        )
    return examples


def put_together(
    prompts: Sequence[Prompt], written: Sequence[Written], also: Sequence[Example] = (), *,
    with_tokens: bool = True,
) -> tuple[Example, ...]:  # fmt: skip
    """One example of each prompt, in their order; of equal responses the first is kept, and no empty one.
    Responses of `also`, feedback on these prompts, come first, with all that is said of them."""
    known = {example.prompt.key: example for example in transforms.merged(also)}
    examples: list[Example] = []
    empty = twice = kept_before = 0
    without: list[Prompt] = []
    for place, prompt in enumerate(prompts):
        before = known.get(prompt.key)
        responses = [] if before is None else list(before.responses)
        kept_before += len(responses)
        seen = {content_key(one.content) for one in responses}
        for one in (one for model in written for one in model[place]):
            content: Content = one.text if isinstance(prompt.content, str) else turns.as_messages(one.text)
            if turns.says_nothing(content):
                empty += 1
            elif content_key(content) in seen:
                twice += 1
            else:
                seen.add(content_key(content))
                ids = one.ids if with_tokens else None
                responses.append(Response(content, source=one.source, tokens=ids))
        if responses:
            comparisons = () if before is None else before.comparisons
            examples.append(Example(prompt, tuple(responses), comparisons))
        else:
            without.append(prompt)
    _say_what_became_of_them(kept_before, twice, empty, without)
    return tuple(examples)


def _say_what_became_of_them(kept_before: int, twice: int, empty: int, without: Sequence[Prompt]) -> None:
    if kept_before:
        told = f"{counted(kept_before, 'response')} of the data kept beside them"
        logger.info(f"{told} (--no-keep-responses leaves them out)")
    repeated = f"{twice} that another response to the prompt repeats" if twice else ""
    if left_out := ", ".join(filter(None, [repeated, f"{empty} empty" if empty else ""])):
        logger.info(f"responses left out: {left_out}")
    if without:
        files: dict[str, list[int]] = {}
        for prompt in without:
            if prompt.origin is not None:
                files.setdefault(prompt.origin.file, []).append(prompt.origin.row)
        where = "; ".join(f"{file} {numbered(rows)}" for file, rows in files.items())
        told = f"{counted(len(without), 'prompt')} left out, without a response{f' ({where})' if where else ''}"
        logger.info(f"{told}: too long, or every response was empty")


def best_of_each(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Best of n without training: the response judged best of each prompt; prompts without one are left out."""
    made = [best_of(example) for example in examples]
    if without := [of.origin for of, one in zip(examples, made, strict=True) if one is None]:
        told = f"nothing says which response is best{views.places(without)}"
        logger.info(f"{counted(len(without), 'prompt')} left out: {told}")
    return tuple(filter(None, made))


def best_of(example: Example) -> Example | None:
    """The example with its best response alone; of equals the first. None where nothing says which is best.
    Without scores it is the one with the highest mean probability of being preferred, 1/2 where that is unknown."""
    found = list(records.scores(example)) or _preferred(example)
    if not found:
        return None
    at, score = max(found, key=lambda value: value[1])
    return Example(example.prompt, (replace(example.responses[at], score=score),))


def _preferred(example: Example) -> list[records.Value]:
    """How surely each response is preferred to the others, in [0, 1]; nothing without comparisons."""
    if not example.comparisons:
        return []
    found, others = records.wins(example.comparisons), len(example.responses) - 1
    every = [(at, found.get(at, [])) for at in range(others + 1)]
    return [(at, (sum(sure) + 0.5 * (others - len(sure))) / others) for at, sure in every]


def write_responses(prompts: Sequence[Prompt], writer: Writer, work: Work, *, responses: int, seed: int) -> Written:
    """Responses of a writer to each prompt, each piece with its own seed; what is kept is not written again."""

    def sample(sampler: Sampler, name: str, chunk: Sequence[Prompt]) -> list[Any]:
        of_part = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")
        made = sampler.sample(chunk, responses, seed=of_part)
        flat = [one for several in made for one in several]
        if flat and not any(one.text.strip() for one in flat):
            raise errors.AnnotatorError(
                f"{writer.name}: all {counted(len(flat), 'response')} to {counted(len(made), 'prompt')} are empty. "
                "Look at --stop and at the chat template, and whether the prompts are of the form the model was "
                "trained on"
            )
        return [[asdict(replace(one, log_probs=None)) for one in several] for several in made]

    parts = work.in_parts(writer.part, f"sampling {writer.name}", prompts, CHUNK, writer.load, sample)
    made = [tuple(map(_sampled, several)) for part in parts for several in part]
    logger.info(f"{writer.name}: {lengths(made)}")
    return made


def lengths(written: Written) -> str:
    """For people: `32 responses to 8 prompts, 7.2 words on average; 3 ran out of tokens`."""
    flat = [one for several in written for one in several]
    if not flat:
        return "no responses, as no prompt leaves room for one"
    words = fmean(len(one.text.split()) for one in flat)
    line = f"{counted(len(flat), 'response')} to {counted(len(written), 'prompt')}, {words:.1f} words on average"
    cut = sum(not one.ended for one in flat)
    return f"{line}; {cut} ran out of tokens (--max-new-tokens) and have no end" if cut else line


def _sampled(kept: dict[str, Any]) -> Sampled:
    return Sampled(**{**kept, "ids": None if kept["ids"] is None else tuple(kept["ids"]), "log_probs": None})


def make_writers(settings: SampleSettings, prompts: int, day: Day) -> list[Writer]:
    """A writer for each model of the settings, or for their server; nothing is loaded yet."""
    if settings.sampler.served:
        name = settings.sampler.server_model or (settings.model[0] if settings.model else "server")
        return [Writer(name, partial(_server, settings, name, day), "sample 0")]
    loads = [partial(in_process, settings, of, day, prompts, model_in(settings, of)) for of in settings.model]
    return [Writer(settings.model[at], load, f"sample {at}") for at, load in enumerate(loads)]


def model_in(settings: SampleSettings, name: str) -> Read:
    return lambda device: load.load(model_named(name), device=device, **_reading(settings))


@contextmanager
def in_process(settings: SampleSettings, name: str, day: Day, prompts: int, read: Read) -> Iterator[Sampler]:
    """A sampler with a model of this process, whose memory is free afterwards."""
    model, encoder = running(settings, day, prompts, read)
    try:
        yield make_engine(settings.sampler, model, encoder, name=name)
    finally:
        del model, encoder  # before the next one is loaded
        free_memory()


def running(settings: SampleSettings, day: Day, prompts: int, read: Read) -> tuple[causal.CausalModel, encode.Encoder]:
    """A model in this process that is not trained, and how it is asked; see `in_process`."""
    device = prepare.pick_device(settings.device)
    loaded = read(device)
    network: Any = loaded.network
    network.requires_grad_(False).eval()
    prepare.set_threads(network, prompts)
    encoder = _encoder(settings, loaded, model_folder.context_length(network.config), day)
    return causal.CausalModel(network, autocast=prepare.pick_autocast(settings.precision, device)), encoder


def free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _server(settings: SampleSettings, name: str, day: Day) -> Iterator[Sampler]:
    encoder = None
    if settings.model:
        found = _tokenizer(settings, settings.model[0])
        encoder = _encoder(settings, found, found.positions, day)
    yield make_engine(settings.sampler, None, encoder, name=name)


def _tokenizer(settings: SampleSettings, name: str) -> Any:
    return tokenizer.load_tokenizer(model_named(name, weights=False), **_reading(settings))


def _reading(settings: SampleSettings) -> dict[str, Any]:
    return settings.model_dump(include={"trust_remote_code", "eos_token", "chat_template"})


def _encoder(settings: SampleSettings, of: Any, positions: int | None, day: Day) -> encode.Encoder:
    """As a model is asked; `of` is it or its tokenizer, as loaded."""
    limits = encode.Limits(settings.max_length or positions or UNLIMITED, settings.max_prompt_length)
    dated = day() if chat_template.writes_date(of.tokenizer) else None
    return encode.Encoder(of.tokenizer, end_ids=of.end_ids, limits=limits, condition=of.condition, date=dated)


def _vocabulary(settings: SampleSettings, name: str) -> str:
    """A hash of a model's tokens, and of how text is split into them where its tokenizer says."""
    tokenizer = _tokenizer(settings, name).tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    said = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(said.encode()).hexdigest()
