"""Candidates for a file of prompts or of feedback: written by several models, judged if asked, and put together."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trueup.config.run_checks import check_file
from trueup.errors import InputError
from trueup.feedback.canonical import write_examples
from trueup.feedback.orders import Value, scores, wins
from trueup.feedback.read import Prompts
from trueup.feedback.records import Content, Discarded, Example, Message, Prompt, Response, content_key
from trueup.feedback.transforms.merge_prompts import merged
from trueup.feedback.turns import says_nothing
from trueup.feedback.viewed import places
from trueup.gathering.judging import annotator_loader, judge
from trueup.gathering.resumable import Work, check_place, of_sampling, resumable
from trueup.gathering.writing import Written, make_writers, share_a_tokenizer, write_responses
from trueup.model_folder import WORLD, check_model, scores_text
from trueup.settings.gathering_settings import SampleSettings
from trueup.sources.by_name import model_named, prompts_named
from trueup.words import counted, numbered

logger = logging.getLogger(__name__)


def sample(settings: SampleSettings) -> Path:
    """Write the candidates that settings ask for; what an earlier call with the same settings did is not done again.

    Raises:
        InputError: something that was given cannot be used.
        AnnotatorError: a server or an annotator fails, or a model writes nothing but empty responses.
        Stopped: the user asked to stop.
    """
    _check(settings)
    load = annotator_loader(settings, settings.annotator) if settings.annotator is not None else None
    output = Path(settings.output)
    asked = _asked(settings)
    with resumable(output, "trueup sample", of_sampling(settings, asked.prompts, asked.examples)) as work:
        examples = _candidates(settings, asked, work)
        if load is not None:
            examples = judge(examples, load, work).kept
        if settings.best:
            examples = best_of_each(examples)
        number = write_examples(output, examples)
        work.finish()
    responses = sum(len(one.responses) for one in examples)
    logger.info(f"{counted(responses, 'response')} to {counted(number, 'prompt')} written to {output}")
    return output


def _check(settings: SampleSettings) -> None:
    """What can be told before anything is loaded."""
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


def _asked(settings: SampleSettings) -> Prompts:
    """The prompts to ask, and what the data hold on these very prompts, where it is to be kept."""
    found = prompts_named(settings.data, skip_bad=settings.skip_bad)
    prompts = found.prompts[: settings.count]
    keys = {one.key for one in prompts}
    also = [one for one in found.examples if settings.merge and one.prompt.key in keys]
    return Prompts(prompts, tuple(also))


def _candidates(settings: SampleSettings, asked: Prompts, work: Work) -> tuple[Example, ...]:
    if WORLD in settings.model:
        model_named(WORLD)  # made before the bar over what is asked of it
    writers = make_writers(settings, len(asked.prompts))
    with_tokens = share_a_tokenizer(settings)
    if not with_tokens:
        logger.info("the models have different tokenizers, so that no token ids are stored")
    written = write_responses(
        asked.prompts, writers, work, responses=settings.sampler.responses, seed=settings.seed
    )
    examples = put_together(asked.prompts, written, asked.examples, with_tokens=with_tokens)
    if not examples:
        raise InputError(
            f"no prompt of {len(asked.prompts)} got a response: none leaves room for one. Give a smaller "
            "--max-new-tokens, or --max-prompt-length so that long prompts lose their beginning"
        )
    return examples


def put_together(
    prompts: Sequence[Prompt],
    written: Sequence[Written],
    also: Sequence[Example] = (),
    *,
    with_tokens: bool = True,
) -> tuple[Example, ...]:
    """One example of each prompt, in their order; of equal responses the first is kept, and no empty one.

    Args:
        written: by each model, in the order of the prompts.
        also: feedback on these prompts; its responses come first, with all that is said of them.
        with_tokens: keep the token ids that the models wrote.
    """
    known = {example.prompt.key: example for example in merged(also)}
    examples: list[Example] = []
    empty = twice = kept_before = 0
    without: list[Prompt] = []
    for place, prompt in enumerate(prompts):
        before = known.get(prompt.key)
        responses = [] if before is None else list(before.responses)
        kept_before += len(responses)
        seen = {content_key(one.content) for one in responses}
        for one in (one for model in written for one in model.responses[place]):
            content = response_to(prompt.content, one.text)
            if says_nothing(content):
                empty += 1
            elif content_key(content) in seen:
                twice += 1
            else:
                seen.add(content_key(content))
                responses.append(
                    Response(content, source=one.source, tokens=one.ids if with_tokens else None)
                )
        if not responses:
            without.append(prompt)
            continue
        comparisons = () if before is None else before.comparisons
        examples.append(Example(prompt, tuple(responses), comparisons))
    _say_what_became_of_them(kept_before, twice, empty, without)
    return tuple(examples)


def response_to(prompt: Content, text: str) -> Content:
    """A response of the same kind as its prompt: text, or a turn of the assistant."""
    return text if isinstance(prompt, str) else (Message("assistant", text),)


def _say_what_became_of_them(kept_before: int, twice: int, empty: int, without: Sequence[Prompt]) -> None:
    if kept_before:
        logger.info(
            f"{counted(kept_before, 'response')} of the data kept beside them (--no-merge leaves them out)"
        )
    left_out = [f"{twice} that another response to the prompt repeats"] if twice else []
    left_out += [f"{empty} empty"] if empty else []
    if left_out:
        logger.info(f"responses left out: {', '.join(left_out)}")
    if without:
        files: dict[str, list[int]] = {}
        for prompt in without:
            if prompt.origin is not None:
                files.setdefault(prompt.origin.file, []).append(prompt.origin.row)
        where = "; ".join(f"{file} {numbered(rows)}" for file, rows in files.items())
        logger.info(
            f"{counted(len(without), 'prompt')} left out, without a response{f' ({where})' if where else ''}: too "
            "long, or every response was empty"
        )


def best_of_each(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Best of n without training: the response judged best of each prompt; prompts without one are left out."""
    made = [best_of(example) for example in examples]
    without = [one.origin for one in made if isinstance(one, Discarded)]
    if without:
        logger.info(
            f"{counted(len(without), 'prompt')} left out: nothing says which response is best{places(without)}"
        )
    return tuple(one for one in made if isinstance(one, Example))


def best_of(example: Example) -> Example | Discarded:
    """The example with its best response alone, which keeps its score; of equals the first.

    Where there are comparisons instead of scores, the score is the mean probability of being preferred to each of the
    other responses, 1/2 where two were not told apart.
    """
    found = list(scores(example)) or _preferred(example)
    if not found:
        return Discarded("nothing says which response is best", example.origin)
    at, score = max(found, key=lambda value: value[1])
    return replace(example, responses=(replace(example.responses[at], score=score),), comparisons=())


def _preferred(example: Example) -> list[Value]:
    """How surely each response is preferred to the others, in [0, 1]; nothing without comparisons."""
    if not example.comparisons:
        return []
    found, others = wins(example.comparisons), len(example.responses) - 1
    return [
        (at, (sum(sure) + 0.5 * (others - len(sure))) / others)
        for at, sure in ((at, found.get(at, [])) for at in range(others + 1))
    ]
