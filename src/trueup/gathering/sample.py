"""Candidates for a file of prompts or of feedback: written by several models, judged if asked, and put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trueup.annotators.annotator import Annotator
from trueup.config.named_files import check_file
from trueup.display import Display
from trueup.errors import InputError
from trueup.feedback.canonical import write_examples
from trueup.feedback.prompts import Prompts
from trueup.feedback.records import Example
from trueup.feedback.viewed import places
from trueup.gathering.best import best_of_each
from trueup.gathering.candidates import put_together
from trueup.gathering.depends import of_sampling
from trueup.gathering.judges import prepared
from trueup.gathering.judging import judge
from trueup.gathering.output import check_place, working
from trueup.gathering.partial import Partial
from trueup.gathering.summary import summary
from trueup.gathering.work import Work
from trueup.gathering.writing import write_responses
from trueup.model_folder import check_model, scores_text
from trueup.settings.gathering_settings import SampleSettings
from trueup.sources.by_name import prompts_named
from trueup.words import counted

WORLD = "world"


def sample(settings: SampleSettings, display: Display) -> Path:
    """Write the candidates that settings ask for; what an earlier call with the same settings did is not done again.

    Raises:
        InputError: something that was given cannot be used.
        AnnotatorError: a server or an annotator fails, or a model writes nothing but empty responses.
        Stopped: the user asked to stop.
    """
    _check(settings)
    load = None
    if settings.annotator is not None:
        load = prepared(
            settings.annotator, seed=settings.seed, device=settings.device,
            trust_remote_code=settings.trust_remote_code,
        )  # fmt: skip
    output = Path(settings.output)
    asked = _asked(settings, display)
    kept = Partial(output, "trueup sample", of_sampling(settings, asked.prompts, asked.examples))
    with working(kept, display) as work:
        examples = _candidates(settings, asked, work, display)
        if load is not None:
            examples = _judged(examples, load, work, display, best=settings.best)
        number = write_examples(output, examples)
        kept.finish()
    responses = sum(len(one.responses) for one in examples)
    display.say(f"{counted(responses, 'response')} to {counted(number, 'prompt')} written to {output}")
    return output


def _check(settings: SampleSettings) -> None:
    """What can be told without torch."""
    check_place(settings.output, overwrite=settings.overwrite)
    server = settings.sampler.engine == "server"
    for name in settings.model:
        if name == WORLD:
            continue
        check_model(name, trust_remote_code=settings.trust_remote_code, weights=not server)
        if scores_text(name):
            raise InputError(
                f"model {name} is a reward model, and writes nothing; give it as --annotator reward:{name}"
            )
    if settings.chat_template is not None:
        check_file(settings.chat_template, "a file with a Jinja chat template")


def _asked(settings: SampleSettings, display: Display) -> Prompts:
    """The prompts to ask, and what the data hold on these very prompts, where it is to be kept."""
    found = prompts_named(settings.data, skip_bad=settings.skip_bad)
    prompts = found.prompts[: settings.count]
    keys = {one.key for one in prompts}
    also = [one for one in found.examples if settings.merge and one.prompt.key in keys]
    return Prompts(prompts, found.lines, tuple(also))


def _candidates(
    settings: SampleSettings, asked: Prompts, work: Work, display: Display
) -> tuple[Example, ...]:
    from trueup.gathering.writers import folder_of, make_writers, share_a_tokenizer

    if WORLD in settings.model:
        folder_of(WORLD)  # made before the bar over what is asked of it
    writers = make_writers(settings, len(asked.prompts))
    with_tokens = share_a_tokenizer(settings)
    if not with_tokens:
        display.say("the models have different tokenizers, so that no token ids are stored")
    written = write_responses(
        asked.prompts, writers, work, responses=settings.sampler.responses, seed=settings.seed
    )
    for one in written:
        display.say(one.line)
    made = put_together(asked.prompts, written, asked.examples, with_tokens=with_tokens)
    for line in made.lines:
        display.say(line)
    if not made.examples:
        raise InputError(
            f"no prompt of {len(asked.prompts)} got a response: none leaves room for one. Give a smaller "
            "--max-new-tokens, or --max-prompt-length so that long prompts lose their beginning"
        )
    return made.examples


def _judged(
    examples: tuple[Example, ...],
    load: Callable[[], Annotator],
    work: Work,
    display: Display,
    *,
    best: bool,
) -> tuple[Example, ...]:
    judged = judge(examples, load, work)
    for line in summary(examples, judged):
        display.say(line)
    if not judged.kept:
        raise InputError(nothing_judged(len(examples)))
    if not best:
        return judged.kept
    found, without = best_of_each(judged.kept)
    if without:
        origins = places([one.origin for one in without])
        display.say(
            f"{counted(len(without), 'prompt')} left out: nothing says which response is best{origins}"
        )
    return tuple(found)


def nothing_judged(number: int) -> str:
    """What to say where nothing came of judging."""
    return (
        f"none of {counted(number, 'example')} was judged, for the reasons above; nothing was written. Give examples "
        "with several different responses to an annotator that compares, or another annotator"
    )
