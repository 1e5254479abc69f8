"""A file of feedback judged anew by any annotator, or its chosen responses written anew."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from trueup.feedback.canonical import write_examples
from trueup.feedback.records import Example
from trueup.gathering.judging import annotator_loader, judge
from trueup.gathering.resumable import Work, check_place, of_annotating, resumable
from trueup.gathering.rewriting import make_demonstrator, rewrite
from trueup.settings.gathering_settings import AnnotateSettings
from trueup.sources.by_name import examples_named
from trueup.words import counted

Make = Callable[[Sequence[Example], Work], Sequence[Example]]
"""The examples that are written, of those that were given."""

logger = logging.getLogger(__name__)


def annotate(settings: AnnotateSettings) -> Path:
    """Write the examples as they are judged or rewritten now; what an earlier call did already is not done again.

    Raises:
        InputError: something that was given cannot be used, or nothing came of it.
        AnnotatorError: the annotator cannot be reached or afforded, or too many of its verdicts cannot be read.
        Stopped: the user asked to stop.
    """
    check_place(settings.output, overwrite=settings.overwrite)
    make = _rewriting(settings) if settings.rewrite else _judging(settings)
    output = Path(settings.output)
    given = examples_named(settings.data, skip_bad=settings.skip_bad).examples
    with resumable(output, "trueup annotate", of_annotating(settings, given)) as work:
        examples = make(given, work)
        number = write_examples(output, examples)
        work.finish()
    logger.info(f"{counted(number, 'example')} written to {output}")
    return output


def _judging(settings: AnnotateSettings) -> Make:
    load = annotator_loader(
        settings.annotator,
        seed=settings.seed,
        device=settings.device,
        trust_remote_code=settings.trust_remote_code,
    )
    return lambda examples, work: judge(examples, load, work).kept


def _rewriting(settings: AnnotateSettings) -> Make:
    demonstrator = make_demonstrator(settings)  # nothing is sent yet
    return lambda examples, work: rewrite(examples, demonstrator, work)
