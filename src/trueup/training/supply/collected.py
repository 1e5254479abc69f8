"""Feedback gathered in one go before training: sample, score, and then train as on any data.

The pipeline of Hu et al., 2023, https://arxiv.org/abs/2308.12050 (generate, label with a reward model, filter, weight
or condition), and of Yuan et al., 2023, https://arxiv.org/abs/2304.05302 (several sampling policies, scored, ranked).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trueup.errors import InputError
from trueup.feedback.prompts import distinct, of_examples
from trueup.feedback.records import Example, Prompt
from trueup.settings.run_settings import RunSettings
from trueup.sources.gather import gather
from trueup.sources.log import RoundLog
from trueup.training.data import examples_of, make_source
from trueup.training.supply.gathering import make_gatherer, read_run_prompts
from trueup.training.supply.supply import Context, Supplied

CHUNK = 64
"""Prompts sampled and judged before they are written: what a run that is killed may have to do again."""


class Collected:
    """Reads the run's prompts, and the feedback whose responses join those sampled.

    Raises:
        InputError: a file cannot be read.
    """

    def __init__(self, settings: RunSettings) -> None:
        read, fingerprints = read_run_prompts(settings)
        self.also: tuple[Example, ...] = ()
        lines = list(read.lines)
        found: Sequence[Prompt] = read.prompts
        self.fingerprints: Mapping[str, str] = fingerprints
        if settings.data:
            data = gather(settings.data, skip_bad=settings.skip_bad)
            self.also = data.examples
            self.fingerprints = {**fingerprints, **data.fingerprints}
            found, more = distinct([*read.prompts, *of_examples(data.examples)])
            lines += [*data.lines, "their responses join those sampled, and are judged with them", *more]
        self.prompts = found
        self.lines: Sequence[str] = lines
        self.warnings: Sequence[str] = ()

    def supply(self, context: Context) -> Supplied:
        settings = context.settings
        examples, lines = self._collect(context)
        made = examples_of(settings, context.method, examples, self.fingerprints)
        for warning in made.warnings:
            context.display.warn(warning)
        source, more = make_source(
            made, context.loaded, settings, context.method, display=context.display, poll=context.poll
        )
        return Supplied(source, (*lines, *made.lines, *more), made.condition)

    def _collect(self, context: Context) -> tuple[list[Example], list[str]]:
        encoder = context.encoder()
        log = RoundLog(context.folder.path)
        chunks = [self.prompts[start : start + CHUNK] for start in range(0, len(self.prompts), CHUNK)]
        missing = [number for number in range(1, len(chunks) + 1) if number not in log.rounds]
        if missing:
            gatherer = make_gatherer(context, encoder)
            gatherer.sampler.refresh(0)
            context.begin()
            for number in context.display.track(missing, "sampling and judging"):
                context.poll()
                prompts = chunks[number - 1]
                gathered = gatherer.gather(number, prompts, self.also)
                log.add(number, len(chunks), len(prompts), gathered.examples, gathered.facts)
        examples = [one for number in sorted(log.rounds) for one in log.rounds[number].examples]
        if not examples:
            raise InputError(
                f"nothing came of {len(self.prompts)} prompts: none left room for a response, or no judgement could be "
                "read. Look at some with `trueup sample` and `trueup annotate`"
            )
        responses = sum(len(one.responses) for one in examples)
        return examples, [
            f"{responses} responses to {len(examples)} of {len(self.prompts)} prompts sampled and judged, in "
            f"{log.examples}"
        ]
