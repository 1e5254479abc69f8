"""A file of feedback judged anew by any annotator, or its chosen responses written anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trueup.display import Display
from trueup.errors import InputError
from trueup.feedback.canonical import write_examples
from trueup.feedback.records import Example
from trueup.gathering.depends import of_annotating
from trueup.gathering.judges import prepared
from trueup.gathering.judging import judge
from trueup.gathering.output import check_place, working
from trueup.gathering.partial import Partial
from trueup.gathering.rewriting.demonstrator import load_demonstrator
from trueup.gathering.rewriting.rewrite import rewrite
from trueup.gathering.sample import nothing_judged
from trueup.gathering.summary import spent, summary
from trueup.gathering.work import Work
from trueup.settings.annotator_settings import EndpointAnnotator
from trueup.settings.gathering_settings import AnnotateSettings
from trueup.sources.by_name import examples_named
from trueup.words import counted

Make = Callable[[Sequence[Example], Work, Display], Sequence[Example]]
"""The examples that are written, of those that were given."""


def annotate(settings: AnnotateSettings, display: Display) -> Path:
    """Write the examples as they are judged or rewritten now; what an earlier call did already is not done again.

    Raises:
        InputError: something that was given cannot be used, or nothing came of it.
        AnnotatorError: the annotator cannot be reached or afforded, or too many of its verdicts cannot be read.
        Stopped: the user asked to stop.
    """
    check_place(settings.output, overwrite=settings.overwrite)
    make = _rewriting(settings) if settings.rewrite else _judging(settings)
    output = Path(settings.output)
    gathered = examples_named(settings.data, skip_bad=settings.skip_bad)
    kept = Partial(output, "trueup annotate", of_annotating(settings, gathered.examples))
    with working(kept, display) as work:
        examples = make(gathered.examples, work, display)
        number = write_examples(output, examples)
        kept.finish()
    display.say(f"{counted(number, 'example')} written to {output}")
    return output


def _judging(settings: AnnotateSettings) -> Make:
    load = prepared(
        settings.annotator, seed=settings.seed, device=settings.device,
        trust_remote_code=settings.trust_remote_code,
    )  # fmt: skip

    def make(examples: Sequence[Example], work: Work, display: Display) -> Sequence[Example]:
        judged = judge(examples, load, work)
        for line in summary(examples, judged):
            display.say(line)
        if not judged.kept:
            raise InputError(nothing_judged(len(examples)))
        return judged.kept

    return make


def _rewriting(settings: AnnotateSettings) -> Make:
    choice = settings.annotator
    assert isinstance(choice, EndpointAnnotator)
    load = partial(
        load_demonstrator, choice, template=settings.rewrite_template, max_tokens=settings.rewrite_tokens,
        temperature=settings.rewrite_temperature, seed=settings.seed,
    )  # fmt: skip
    load()  # nothing is sent

    def make(examples: Sequence[Example], work: Work, display: Display) -> Sequence[Example]:
        rewritten = rewrite(examples, load, work, model=choice.model)
        for line in (*rewritten.lines, *spent(rewritten.facts)):
            display.say(line)
        if not rewritten.examples:
            raise InputError(
                f"none of {counted(len(examples), 'example')} was rewritten, for the reasons above; nothing was "
                "written. Give pairs: examples in which one response is preferred to another"
            )
        return rewritten.examples

    return make
