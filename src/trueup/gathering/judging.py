"""Examples judged a few at a time, each piece kept as soon as it is there, and what the judgements amount to."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from trueup import errors, estimates
from trueup.annotators import comparing, jury
from trueup.annotators.annotator import SCORE_OF, Annotated, Annotator, summed
from trueup.feedback import canonical, views
from trueup.feedback.records import Discarded, Example, Origin, content_key, scores_of
from trueup.gathering.resumable import Work
from trueup.settings import annotator_settings, gathering_settings
from trueup.sources.by_name import make_annotator
from trueup.words import counted, logger

CHUNK = 64
USAGE = ("requests", "cached", "asked_again", "tokens", "estimated", "cost")
"""Totals of an endpoint, in the order in which they are shown."""
WORDS = {"cached": "from the cache", "asked_again": "asked again"}
WORDS["estimated"] = "requests whose tokens are estimates"
PAIRS = {
    "ties": "found equal",
    "dropped": "dropped, as a verdict could not be read",
    "undecided": "undecided, as the judges do not agree",
    "flipped": "preferred the other way round in the other order",
}
READ = {"verdicts", "unreadable", "first", "pairs", "scores", "alike", "shared", "gold", "gold_right"}
READ |= {*PAIRS, *USAGE}

Examples = Sequence[Example | None]
Day = Callable[[], str]
Load = Callable[[Day], Annotator]


def annotator_loader(
    settings: gathering_settings.SampleSettings | gathering_settings.AnnotateSettings,
    choice: annotator_settings.AnnotatorChoice,
) -> Load:
    """What loads an annotator that was checked (`check_annotator`).
    One that has no weights is made at once: a function's file is the user's and is run only once, and an endpoint is
    asked nothing yet."""

    given = settings.model_dump(include={"seed", "device", "trust_remote_code"})
    if any(one.about.weights is not None for one in annotator_settings.annotators_in(choice).values()):
        return lambda day: make_annotator(choice, **given, day=day)
    ready = make_annotator(choice, **given)
    return lambda _: ready


def _keep_undecided(output: Path, given: Sequence[Example], judged: Annotated) -> None:
    """Write what a jury left undecided, for people to decide: examples as they were given, and of those of which it
    decided some pairs the other pairs, each by itself. No file without any."""
    path = output.with_name(f"{output.name.partition('.')[0]}.undecided.jsonl")
    undecided = []
    for one, said in zip(given, judged.examples, strict=True):
        if isinstance(said, Example) and judged.totals.get("undecided"):
            known = {frozenset((each.better, each.worse)) for each in said.comparisons}
            left = [both for both in combinations(comparing.distinct(one), 2) if frozenset(both) not in known]
            sides = [tuple(one.responses[at] for at in both) for both in left]
            undecided += [replace(one, responses=both, votes=()) for both in sides]
        elif isinstance(said, Discarded) and said.reason == comparing.UNDECIDED:
            undecided.append(one)
    undecided = [replace(one, comparisons=()) for one in undecided]
    path.unlink(missing_ok=True)
    if undecided:
        number = canonical.write_examples(path, undecided)
        logger.info(f"{counted(number, 'example')} that the judges do not agree on written to {path}")


def judge(examples: Examples, load: Load, work: Work, output: Path | None = None) -> Annotated:
    """Have every example judged, and say what came of it; what is kept already is not asked for again.
    None among the examples keeps a place. What a jury leaves undecided goes beside the output.
    Totals count what earlier processes asked for, too."""
    judged = judged_in_parts(examples, load, work)
    for line in summary([one for one in examples if one], judged):
        logger.info(line)
    if output is not None:
        _keep_undecided(output, [one for one in examples if one], judged)
    if not judged.kept and work.alone:
        raise errors.InputError(
            f"none of {counted(len(examples), 'example')} was judged, for the reasons above; nothing was written. Give "
            "examples with several different responses to an annotator that compares, or another annotator"
        )
    return judged


def judged_in_parts(
    examples: Examples, load: Load, work: Work, name: str = "judge", label: str = "judging"
) -> Annotated:
    parts = work.in_parts(name, label, examples, CHUNK, lambda: nullcontext(load(work.day)), _judged)
    both = zip((row for part in parts for row in part["rows"]), filter(None, examples), strict=True)
    return Annotated(tuple(_read(*one) for one in both), summed(part["facts"] for part in parts))


def _judged(annotator: Annotator, _: str, chunk: Examples) -> dict[str, Any]:
    annotated = annotator.annotate([one for one in chunk if one])
    rows = [
        {"dropped": one.reason} if isinstance(one, Discarded) else canonical.example_to_row(one)
        for one in annotated.examples
    ]
    return {"rows": rows, "facts": dict(annotated.totals)}


def _read(row: Mapping[str, Any], example: Example) -> Example | Discarded:
    if "dropped" in row:
        return Discarded(row["dropped"], example.origin)
    return canonical.example_from_row(row, example.origin or Origin("examples", 1))


def left_out(dropped: Sequence[Discarded]) -> str | None:
    """For people: `3 examples left out: 2 for ... (a.jsonl:4, a.jsonl:9), 1 for ...`; None where there are none."""
    if not dropped:
        return None
    why: dict[str, list[Origin | None]] = {}
    for one in dropped:
        why.setdefault(one.reason, []).append(one.origin)
    reasons = [f"{len(where)} for {reason}{views.places(where)}" for reason, where in why.items()]
    return f"{counted(len(dropped), 'example')} left out: {', '.join(reasons)}"


def summary(before: Sequence[Example], judged: Annotated) -> list[str]:
    """Lines on the judgements of examples, `before` being these as they were given."""
    lines = [*_scores(judged.kept), *_comparisons(judged)]
    lines += [*verdict_lines(judged.totals), *usage_lines(judged.totals)]
    if line := left_out(judged.dropped):
        lines.append(line)
    known = [(old, new) for old, new in zip(before, judged.examples, strict=True) if isinstance(new, Example)]
    return [*lines, *agreement(known)]


def _scores(examples: Sequence[Example]) -> Iterator[str]:
    scores = [scores_of([example]) for example in examples]
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


def _comparisons(judged: Annotated) -> Iterator[str]:
    sure = [one.probability for example in judged.kept for one in example.comparisons]
    if sure:
        yield f"{counted(len(sure), 'comparison')}: the preferred response has probability {fmean(sure):.3g} on average"
    totals = judged.totals
    if pairs := round(totals.get("pairs", 0)):
        said = [f"{round(totals.get(name, 0))} {words}" for name, words in PAIRS.items() if totals.get(name)]
        if said:
            yield f"of {counted(pairs, 'pair')}: {', '.join(said)}"


def verdict_lines(totals: Mapping[str, float]) -> Iterator[str]:
    """How the verdicts could be read, what being shown first was worth, and how several judges did."""
    yield from jury.jury_lines(totals)
    for name, value in totals.items():
        if name.startswith(SCORE_OF) and totals["scores"]:
            yield f"{name}: mean {value / totals['scores']:.4g}"
    verdicts, unreadable = totals.get("verdicts", 0), totals.get("unreadable", 0)
    pairs, flipped = totals.get("pairs", 0) - totals.get("dropped", 0), totals.get("flipped", 0)
    if flipped > pairs / 2:
        yield (
            f"warning: on {flipped:.0f} of {counted(round(pairs), 'pair')} the place decides, not the response: in the "
            "other order the other one is preferred. Take another judge or template"
        )
    if not verdicts:
        return
    yield f"{counted(round(verdicts), 'verdict')}, {round(unreadable)} of them unreadable"
    for name, value in totals.items():
        if name.startswith("met: ") and totals.get("scores"):
            yield f"{name.removeprefix('met: ')}: met with probability {value / totals['scores']:.3f} on average"
    if verdicts > unreadable:
        share = totals.get("first", 0) / (verdicts - unreadable)
        yield f"position bias: the response shown first has probability {share:.3f} on average, where 0.5 is fair"


def usage_lines(totals: Mapping[str, float]) -> Iterator[str]:
    """What an endpoint took, and whatever else an annotator reports."""
    if "requests" in totals:
        used = [name for name in USAGE if totals.get(name) or name == "requests"]
        yield f"endpoint: {', '.join(f'{_number(totals[name])} {WORDS.get(name, name)}' for name in used)}"
    said = [name for name in totals if name in READ or "/" in name or name.startswith(("met: ", SCORE_OF))]
    if more := sorted(totals.keys() - set(said)):
        yield f"annotator: {', '.join(f'{name} {_number(totals[name])}' for name in more)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


def agreement(judged: Sequence[tuple[Example, Example]]) -> list[str]:
    """How often new judgements order two responses as those before did; nothing where there were none."""
    same: list[float] = []
    undecided = 0
    for old, new in judged:
        now, before = preferences(new), preferences(old)
        known = [(one, other) for one, other in before if now & {(one, other), (other, one)}]
        same += [float(pair in now) for pair in known]
        undecided += len(before) - len(known)
    if not same:
        return []
    share = estimates.mean(same)
    error = "" if math.isnan(share.error) else f" +- {share.error:.3f}"
    both = counted(share.count, "pair")
    line = f"agrees with the judgements given on {share.value:.3f}{error} of {both} that both order"
    return [f"{line}; {undecided} not ordered now" if undecided else line]


def preferences(example: Example) -> set[tuple[object, object]]:
    """(preferred, rejected) for every pair of responses that training by pairs would use."""
    keys = [content_key(one.content) for one in example.responses]
    return {(keys[better], keys[worse]) for better, worse in views.judged_pairs(example)}
