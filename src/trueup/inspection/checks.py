"""Faults that the text alone shows, all of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trueup.feedback.orders import contradicts_scores
from trueup.feedback.records import Content, Example
from trueup.inspection import kinds
from trueup.inspection.judgements import (
    Clash,
    Shared,
    contradicts_itself,
    duplicates,
    identical,
    opposite_labels,
    opposite_pairs,
)
from trueup.inspection.kinds import Kind
from trueup.inspection.problem import Problem, found
from trueup.inspection.statistics import label_counts


def problems_of_examples(examples: Sequence[Example], *, min_visible: int) -> Iterator[Problem]:
    """Every fault of the examples that reading them did not show.

    Args:
        min_visible: a response with fewer visible characters is near-empty.
    """
    yield from _clashes(kinds.DUPLICATE, duplicates(examples), "repeats")
    yield from found(kinds.IDENTICAL_RESPONSES, [one for one in examples if identical(one)])
    yield from found(kinds.CONTRADICTING_COMPARISONS, [one for one in examples if contradicts_itself(one)])
    yield from found(kinds.CONTRADICTING_SCORES, [one for one in examples if contradicts_scores(one)])
    yield from _clashes(kinds.CONTRADICTING_ROWS, opposite_pairs(examples), "contradicts")
    yield from _clashes(kinds.CONTRADICTING_LABELS, opposite_labels(examples), "contradicts")
    yield from _order(examples)
    near_empty = [one for one in examples if any(visible(r.content) < min_visible for r in one.responses)]
    yield from found(kinds.NEAR_EMPTY_RESPONSE, near_empty, about=min_visible)
    yield from found(kinds.EMPTY_PROMPT, [one for one in examples if not visible(one.prompt.content)])
    yield from found(kinds.NO_FEEDBACK, [one for one in examples if not _has_feedback(one)])
    labels = label_counts(examples)
    if labels and max(labels.good, labels.bad) >= 2 and not min(labels.good, labels.bad):
        yield Problem(kinds.ONE_CLASS, 1, about="good" if labels.good else "bad")


def problems_of_overlap(shared: Sequence[Shared]) -> list[Problem]:
    """Evaluation prompts that are trained on."""
    details = [
        f"{one.evaluation.origin} asks what is asked at {', '.join(str(same.origin) for same in one.training[:3])}"
        + ("" if len(one.training) <= 3 else f" and {len(one.training) - 3} more")
        for one in shared
    ]
    return found(kinds.PROMPT_OVERLAP, [one.evaluation for one in shared], details)


def visible(content: Content) -> int:
    """How many visible characters a text has; of messages, all together, and what they call counts as visible."""
    if isinstance(content, str):
        return sum(character.isprintable() and not character.isspace() for character in content)
    return sum(visible(one.content) + sum(len(str(value)) for value in one.extra.values()) for one in content)


def _clashes(kind: Kind, clashes: Sequence[Clash], verb: str) -> list[Problem]:
    details = [f"{one.second.origin} {verb} {_seen_from(one)}" for one in clashes]
    return found(kind, [one.second for one in clashes], details)


def _seen_from(clash: Clash) -> str:
    """The first example, as briefly as the second allows."""
    first, second = clash.first.origin, clash.second.origin
    if first == second:
        return "itself"
    return f"row {first.row}" if first and second and first.file == second.file else str(first)


def _order(examples: Sequence[Example]) -> Iterator[Problem]:
    """Scores that do not order responses."""
    equal, tied, single = [], [], []
    for example in examples:
        scores = [one.score for one in example.responses if one.score is not None]
        if len(example.responses) == 1 and len(scores) == 1:
            single.append(example)
        elif len(scores) > 1 and len(set(scores)) == 1:
            equal.append(example)
        elif len(set(scores)) < len(scores):
            tied.append(example)
    yield from found(kinds.ALL_SCORES_EQUAL, equal)
    yield from found(kinds.TIE, tied)
    yield from found(kinds.SINGLE_RESPONSE, single)
    alone = [example for example in single if _says_only_its_score(example)]
    values = sorted(one.score for example in alone for one in example.responses if one.score is not None)
    if values and values[0] < values[-1]:
        yield from found(kinds.DEMONSTRATED_BY_SCORE, alone, about=f"{values[0]:g} to {values[-1]:g}")


def _says_only_its_score(example: Example) -> bool:
    """Whether nothing but a score says whether the only response is to be imitated."""
    return all(one.label is None and not one.demonstration for one in example.responses)


def _has_feedback(example: Example) -> bool:
    return bool(example.comparisons) or any(
        one.score is not None or one.label is not None or one.demonstration for one in example.responses
    )
