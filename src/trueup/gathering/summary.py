"""What judgements amount to, for people: how many, how they lie, how they were come by, what they agree with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean, pstdev

from trueup.evaluate.estimates import mean
from trueup.feedback import views
from trueup.feedback.groups import Discarded
from trueup.feedback.records import Example, content_key
from trueup.gathering.judging import Judged, left_out
from trueup.words import counted

SPENT = ("requests", "cached", "asked_again", "tokens", "estimated", "cost")
"""Facts of an endpoint, in the order in which they are shown."""
WORDS = {
    "cached": "from the cache",
    "asked_again": "asked again",
    "estimated": "requests whose tokens are estimates",
}
READ = frozenset({"verdicts", "unreadable", "first", "pairs", "dropped", "ties", "flipped", "scores", *SPENT})
"""Facts that are said in words."""


def summary(before: Sequence[Example], judged: Judged) -> list[str]:
    """Lines on the judgements of some examples.

    Args:
        before: the examples as they were given, each with what was said of it before.
    """
    lines = [*_scores(judged.kept), *_comparisons(judged), *_verdicts(judged.facts), *spent(judged.facts)]
    if line := left_out(judged.dropped):
        lines.append(line)
    known = [(old, new) for old, new in zip(before, judged.examples, strict=True) if isinstance(new, Example)]
    return [*lines, *agreement(known)]


def _scores(examples: Sequence[Example]) -> Iterator[str]:
    scores = [[one.score for one in example.responses if one.score is not None] for example in examples]
    flat = [score for several in scores for score in several]
    if not flat:
        return
    yield (
        f"{counted(len(flat), 'score')}: mean {fmean(flat):.4g}, standard deviation {pstdev(flat):.4g}, from "
        f"{min(flat):.4g} to {max(flat):.4g}"
    )
    pairs = [one == other for several in scores for one, other in combinations(several, 2)]
    if any(pairs):
        yield f"ties: {sum(pairs)} of {counted(len(pairs), 'pair')} of responses to one prompt have equal scores"


def _comparisons(judged: Judged) -> Iterator[str]:
    sure = [one.probability for example in judged.kept for one in example.comparisons]
    if sure:
        yield f"{counted(len(sure), 'comparison')}: the preferred response has probability {fmean(sure):.3g} on average"
    facts = judged.facts
    if pairs := round(facts.get("pairs", 0)):
        said = [f"{round(facts.get(name, 0))} {words}" for name, words in PAIRS.items() if facts.get(name)]
        if said:
            yield f"of {counted(pairs, 'pair')}: {', '.join(said)}"


PAIRS = {
    "ties": "found equal",
    "dropped": "dropped, as a verdict could not be read",
    "flipped": "preferred the other way round in the other order",
}


def _verdicts(facts: Mapping[str, float]) -> Iterator[str]:
    """How the verdicts could be read, and what being shown first was worth."""
    asked, unreadable = facts.get("verdicts", 0), facts.get("unreadable", 0)
    if not asked:
        return
    yield f"{counted(round(asked), 'verdict')}, {round(unreadable)} of them unreadable"
    if asked > unreadable:
        share = facts.get("first", 0) / (asked - unreadable)
        yield f"position bias: the response shown first has probability {share:.3f} on average, where 0.5 is fair"


def spent(facts: Mapping[str, float]) -> Iterator[str]:
    """What an endpoint took, and whatever else an annotator reports."""
    if "requests" in facts:
        said = [
            f"{_number(facts[name])} {WORDS.get(name, name)}"
            for name in SPENT
            if facts.get(name) or name == "requests"
        ]
        yield f"endpoint: {', '.join(said)}"
    if more := {name: value for name, value in sorted(facts.items()) if name not in READ}:
        yield f"annotator: {', '.join(f'{name} {_number(value)}' for name, value in more.items())}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


def agreement(judged: Sequence[tuple[Example, Example]]) -> list[str]:
    """How often new judgements order two responses as those before did; nothing where there were none.

    Args:
        judged: each example as it was and as it is now.
    """
    same: list[float] = []
    undecided = 0
    for old, new in judged:
        now = preferences(new)
        for better, worse in preferences(old):
            if (better, worse) in now or (worse, better) in now:
                same.append(float((better, worse) in now))
            else:
                undecided += 1
    if not same:
        return []
    share = mean(same)
    error = "" if math.isnan(share.error) else f" +- {share.error:.3f}"
    both = counted(share.count, "pair")
    line = f"agrees with the judgements given on {share.value:.3f}{error} of {both} that both order"
    return [f"{line}; {undecided} not ordered now" if undecided else line]


def preferences(example: Example) -> set[tuple[object, object]]:
    """(preferred, rejected) for every pair of responses that training by pairs would use."""
    made = views.pairs(example)
    if isinstance(made, Discarded):
        return set()
    keys = [content_key(content) for content in made.responses]
    return {(keys[better], keys[worse]) for better, worse, _ in made.relation.pairs}
