"""The whole inspection, and what it is for a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trueup.errors import InputError
from trueup.feedback.records import Example
from trueup.feedback.turns import turns_in_loss
from trueup.inspection.checks import problems_of_examples, problems_of_overlap
from trueup.inspection.collected import Part, collect, problems_of_reading
from trueup.inspection.judgements import Shared, shared_prompts
from trueup.inspection.kinds import Severity
from trueup.inspection.problem import Problem, in_part
from trueup.inspection.statistics import (
    Distribution,
    Labels,
    Lengths,
    LengthTable,
    Seen,
    character_lengths,
    label_counts,
    length_table,
    score_distribution,
    seen_by_views,
)

if TYPE_CHECKING:
    from trueup.inspection.coding import Coding
    from trueup.inspection.shown import Shown
    from trueup.inspection.tokens import Tokenized

Track = Callable[[Sequence[Example]], Iterable[Example]]


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that was found."""

    training: Part
    evaluation: Part
    views: Mapping[str, Seen]
    lengths: LengthTable | None
    labels: Labels | None
    scores: Distribution | None
    overlap: tuple[Shared, ...]
    problems: tuple[Problem, ...]
    coding: Coding | None = None
    """What encoded, where a model was given; so with the next two."""
    tokenized: Tokenized | None = None
    shown: tuple[Shown, ...] = ()
    turns: tuple[str, ...] = ()
    """What was done so that earlier turns of the assistant are learned."""

    def count(self, severity: Severity) -> int:
        """How many kinds of problem of this severity there are."""
        return sum(problem.kind.severity is severity for problem in self.problems)

    @property
    def unreadable(self) -> bool:
        """Whether a file could not be read at all, or nothing is left to train on."""
        return bool(self.training.unreadable or self.evaluation.unreadable or not self.training.examples)


def inspect(
    data: Sequence[str],
    eval_data: Sequence[str] = (),
    *,
    min_visible: int = 3,
    coding: Coding | None = None,
    show: int = 2,
    rows: Sequence[str] = (),
    track: Track = lambda examples: examples,
) -> Inspection:
    """Look at feedback from every side; nothing that is wrong with it stops this.

    Args:
        data: files and other sources to train on.
        eval_data: the same to evaluate on.
        min_visible: a response with fewer visible characters is near-empty.
        coding: what encodes; None looks at the text alone.
        show: how many examples to show as tokens.
        rows: which ones, instead of the first.
        track: shows progress over the examples to encode.

    Raises:
        InputError: no file is named, or a row to show is not there.
    """
    if not data:
        raise InputError("no file of feedback was given; name at least one")
    training, evaluation = collect(data), collect(eval_data)
    examples = training.examples
    overlap = shared_prompts(examples, evaluation.examples)
    problems = in_part(problems_of_reading(training), "training")
    if eval_data:
        problems += in_part(problems_of_reading(evaluation), "evaluation")
    for name, part in (("training", training), ("evaluation", evaluation)):
        problems += in_part(problems_of_examples(part.examples, min_visible=min_visible), name)
    problems += in_part(problems_of_overlap(overlap), "evaluation")
    unit, lengths = "characters", tuple[Lengths | None, ...](character_lengths(one) for one in examples)
    tokenized: Tokenized | None = None
    shown: tuple[Shown, ...] = ()
    turns: tuple[str, ...] = ()
    if coding is not None:
        from trueup.inspection.shown import choose
        from trueup.inspection.shown import show as as_tokens
        from trueup.inspection.tokens import tokenize
        from trueup.models.tokenizer import quiet

        learned = turns_in_loss(examples, coding.turns)
        held_out = turns_in_loss(evaluation.examples, coding.turns).examples
        part = replace(training, examples=learned.examples)
        chosen = choose(part, rows, show) if training.files else []
        with quiet():  # the library warns of long texts, which are counted here
            tokenized = tokenize(
                track([*learned.examples, *held_out]), coding, training=len(learned.examples)
            )
            shown = tuple(as_tokens(one, coding) for one in chosen)
        problems += tokenized.problems
        unit, lengths = "tokens", tokenized.lengths[: len(examples)]
        turns = learned.lines
    return Inspection(
        training=training,
        evaluation=evaluation,
        views=seen_by_views(examples),
        lengths=length_table(unit, examples, lengths),
        labels=label_counts(examples),
        scores=score_distribution(examples),
        overlap=tuple(overlap),
        problems=tuple(sorted(problems, key=lambda one: list(Severity).index(one.kind.severity))),
        coding=coding,
        tokenized=tokenized,
        shown=shown,
        turns=turns,
    )
