"""Several annotators as one: each judges every pair by itself, and they decide together or leave it undecided.
A panel of different judges has less of any one's bias than a single larger one (Verga et al., 2024,
https://arxiv.org/abs/2404.18796). How far to trust it is measured along the way: how often judges agree, what the first
place is worth to each, and how often they are right about gold pairs, whose answers are known."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

from trueup import errors, estimates
from trueup.annotators import comparing, judge
from trueup.annotators.annotator import Annotated, Annotator, summed
from trueup.feedback import read, records, views
from trueup.settings import annotator_kinds, annotator_settings

Make = Callable[[annotator_settings.AnnotatorChoice, Path | None], Annotator]
"""Makes the annotator of a choice; the file keeps what it takes."""
Heard = Sequence[Sequence[judge.PairVerdict]]  # of each example, of each of its pairs, what one judge says


@dataclass(frozen=True, slots=True)
class Judge:
    name: str
    annotator: Annotator
    waits: bool


@dataclass(frozen=True, slots=True)
class Jury:
    """Puts every pair before all judges and takes the mean of their probabilities; see `decide`.
    Its totals: those of all judges together, and of each under its name and a slash; `pairs` that were not gold, and of
    these the `ties`, those `dropped`, as nobody's verdict could be read, and those `undecided`; `alike`, the share of
    every two judges who say the same of a pair, summed over the `shared` pairs that two or more said something of;
    `gold` pairs and how many of them were `gold_right`, an undecided one or a tie by half. Of each judge also the pairs
    `judged` that the jury decided, and those `agreed` on, a tie by half; and its `gold` and `gold_right`."""

    judges: tuple[Judge, ...]
    agreement: float = 0.6  # share of the judges that have to prefer the same response
    gold: tuple[records.Example, ...] = ()  # with two responses, of which the first is the better one
    gold_share: float = 0.1  # gold pairs for each example that is judged, drawn by a hash of these examples alone
    gives: ClassVar[str] = "comparisons"

    @property
    def name(self) -> str:
        return f"jury of {', '.join(one.name for one in self.judges)}"

    def annotate(self, examples: Sequence[records.Example]) -> Annotated:
        """A pair that is undecided is left out as `UNDECIDED`."""
        told = repr([(one.prompt.key, [said.content for said in one.responses]) for one in examples])
        chance = random.Random(told.encode("utf-8", "surrogatepass"))
        number = min(len(self.gold), math.ceil(self.gold_share * len(examples)))
        every = [*examples, *chance.sample(self.gold, number)]
        pairs = [list(combinations(comparing.distinct(one), 2)) for one in every]
        heard = self._each(self.judges, lambda one: _verdicts(one.annotator, every, pairs))
        totals = self._totals(self.judges, [told for _, told in heard])
        names = ("pairs", "dropped", "ties", "undecided", "alike", "shared")
        counts: defaultdict[str, float] = defaultdict(float, dict.fromkeys(names, 0.0))
        made: list[records.Example | records.Discarded] = []
        for place, (example, own) in enumerate(zip(every, pairs, strict=True)):
            firsts, reasons = [], []
            for number in range(len(own)):
                votes = [verdicts[place][number].first for verdicts, _ in heard]
                first, reason = decide(votes, self.agreement)
                firsts.append(first)
                reasons.append(reason)
                self._count(counts, votes, first, reason, gold=place >= len(examples))
            if place < len(examples):
                why = comparing.UNDECIDED if comparing.UNDECIDED in reasons else comparing.UNREAD
                made.append(comparing.compared(example, own, firsts, why))
        return Annotated(tuple(made), {**totals, **counts})

    def rate(
        self, examples: Sequence[records.Example], criteria: Sequence[Sequence[str]]
    ) -> tuple[list[list[list[float | None]]], Mapping[str, float]]:
        """See `ComparingAnnotator.rate`; the mean over the judges that can rate and whose answers can be read."""
        able = [one for one in self.judges if isinstance(one.annotator, comparing.ComparingAnnotator)]
        if not able:
            raise errors.InputError(f"annotator {self.name}: none rates single responses; add a local or openai one")
        rated = self._each(able, lambda one: one.annotator.rate(examples, criteria))  # type: ignore[attr-defined]
        means = [
            [[_mean(said) for said in zip(*row, strict=True)] for row in zip(*own, strict=True)]
            for own in zip(*(rows for rows, _ in rated), strict=True)
        ]
        return means, self._totals(able, [totals for _, totals in rated])

    def _each(self, judges: Sequence[Judge], ask: Callable[[Judge], Any]) -> list[Any]:
        """What is asked of each judge: of those that wait for servers at the same time, of the others one by one."""
        with ThreadPoolExecutor(len(judges)) as pool:
            waiting = {one.name: pool.submit(ask, one) for one in judges if one.waits}
            here = {one.name: ask(one) for one in judges if not one.waits}
            found = here | {name: one.result() for name, one in waiting.items()}
            return [found[one.name] for one in judges]

    def _totals(self, judges: Sequence[Judge], totals: Sequence[Mapping[str, float]]) -> dict[str, float]:
        together = summed(totals)
        together.pop("flipped", None)  # which is of one judge's pairs
        for one, told in zip(judges, totals, strict=True):
            together |= {f"{one.name}/{name}": value for name, value in told.items()}
        return together

    def _count(
        self, counts: defaultdict[str, float], votes: Sequence[float | None], first: float | None,
        reason: str, *, gold: bool,
    ) -> None:  # fmt: skip
        """Add up what the judges said of a pair, of which the first response is the better one where it is gold."""
        sides = {who.name: _side(one) for who, one in zip(self.judges, votes, strict=True) if one is not None}
        if gold:
            told = {"": 0.5 if first is None else _side(first)}
            told |= {f"{name}/": side for name, side in sides.items()}
            for prefix, side in told.items():
                counts[f"{prefix}gold"] += 1
                counts[f"{prefix}gold_right"] += side
            return
        counts["pairs"] += 1
        counts["dropped"] += reason == comparing.UNREAD
        counts["undecided"] += reason == comparing.UNDECIDED
        counts["ties"] += reason == comparing.TIE
        if len(sides) > 1:
            counts["shared"] += 1
            same = [one == other for one, other in combinations(sides.values(), 2)]
            counts["alike"] += sum(same) / len(same)
        if first is not None and not reason:
            for name, side in sides.items():
                counts[f"{name}/judged"] += 1
                counts[f"{name}/agreed"] += 1 - abs(side - _side(first))


def decide(votes: Sequence[float | None], agreement: float) -> tuple[float | None, str]:
    """What several judges make of two responses: the probability that the first is better, the mean of theirs.
    It holds where a share of `agreement` of all judges prefers the response that it prefers; one that finds a tie, or
    cannot be read (None), counts for either by half. Exchanging the two responses gives exactly 1 minus it.
    Beside it, why there is no comparison: `TIE`, with 0.5; `UNDECIDED` or `UNREAD`, with None; else ""."""
    if not (known := [vote - 0.5 for vote in votes if vote is not None]):
        return None, comparing.UNREAD
    mean = math.fsum(known) / len(known)
    if not any(known):
        return 0.5, comparing.TIE
    with_it = sum(0.5 if not apart else apart * mean > 0 for apart in known) + (len(votes) - len(known)) / 2
    if not mean or with_it < agreement * len(votes):
        return None, comparing.UNDECIDED
    return (0.5 + mean, "") if mean > 0 else (1 - (0.5 - mean), "")


def _side(first: float) -> float:
    return (float(first > 0.5) + float(first >= 0.5)) / 2


def _mean(rated: Sequence[float | None]) -> float | None:
    known = [one for one in rated if one is not None]
    return math.fsum(known) / len(known) if known else None


def _verdicts(
    annotator: Annotator, examples: Sequence[records.Example], pairs: Sequence[Sequence[comparing.Positions]]
) -> tuple[Heard, Mapping[str, float]]:
    """What one annotator says of pairs; one that scores is sure of the higher score, and knows no order."""
    if isinstance(annotator, comparing.ComparingAnnotator | comparing.FunctionComparisons):
        return annotator.pair_verdicts(examples, pairs)
    annotated = annotator.annotate(examples)
    return [
        [_by_scores(one, *both) for both in own] for one, own in zip(annotated.examples, pairs, strict=True)
    ], annotated.totals


def _by_scores(scored: records.Example | records.Discarded, one: int, other: int) -> judge.PairVerdict:
    if isinstance(scored, records.Discarded):
        return judge.PairVerdict(judge.Unreadable(scored.reason), judge.Unreadable(scored.reason))
    first, second = (scored.responses[place].score or 0.0 for place in (one, other))
    side = _side(0.5 + (first > second) / 2 - (first < second) / 2)
    return judge.PairVerdict(judge.Verdict(side), judge.Verdict(1 - side))


def quality(totals: Mapping[str, float]) -> dict[str, Any]:
    """What the totals of a jury say of it, JSON-ready; empty where they are of a single annotator.
    `agreement` of two judges on a pair, `undecided` pairs, and how often it is right about `gold`; of each of the
    `judges` how often it `sides` with the jury, the probability of the response shown `first` (1/2 is fair) and how
    many pairs `flipped` in the other order. Shares with Wilson's intervals."""
    names = list(dict.fromkeys(name.rpartition("/")[0] for name in totals if "/" in name))
    if not names:
        return {}

    def share(name: str, of: float | None, prefix: str = "") -> Any:
        return estimates.wilson(totals.get(f"{prefix}{name}", 0.0), round(of)) if of and of >= 0.5 else None

    made: dict[str, Any] = {
        "agreement": share("alike", totals.get("shared")), "undecided": share("undecided", totals.get("pairs")),
        "gold": share("gold_right", totals.get("gold")), "judges": {},
    }  # fmt: skip
    for name in names:
        own = {key.rpartition("/")[2]: value for key, value in totals.items() if key.startswith(f"{name}/")}
        readable = own.get("verdicts", 0.0) - own.get("unreadable", 0.0)
        made["judges"][name] = {
            "sides": share("agreed", own.get("judged"), f"{name}/"),
            "first": share("first", readable, f"{name}/"),
            "flipped": share("flipped", own.get("pairs", 0.0) - own.get("dropped", 0.0), f"{name}/"),
            "gold": share("gold_right", own.get("gold"), f"{name}/"),
        }
    return made


def jury_lines(totals: Mapping[str, float]) -> Iterator[str]:
    """For people: what `quality` says, a line for the jury and one for each judge."""
    found = quality(totals)
    words = {
        "agreement": "two judges agree on {} of pairs", "undecided": "{} undecided",
        "sides": "sides with the jury on {}", "first": "gives the first place {}",
        "flipped": "contradicts itself in the other order on {}", "gold": "right about {} of gold pairs",
    }  # fmt: skip
    for name, told in (("jury", found), *found.get("judges", {}).items()):
        shares = {key: told[key] for key in words if told.get(key) is not None}
        texts = {key: f"{one.value:.0%} ({one.low:.0%} to {one.high:.0%})" for key, one in shares.items()}
        if texts:
            yield f"{name}: {', '.join(words[key].format(text) for key, text in texts.items())}"


def gold_pairs(file: str) -> tuple[records.Example, ...]:
    """Pairs of a file of feedback, the better response first."""
    found, first = [], (records.Comparison(0, 1),)
    for one in read.read_feedback([file]).examples:
        pairs = ((one.responses[better], one.responses[worse]) for better, worse in views.judged_pairs(one))
        found += [records.Example(one.prompt, pair, first) for pair in pairs]
    if not found:
        raise errors.InputError(f"annotator.gold {file}: no pair in it has a better response; give known answers")
    return tuple(found)


def load_jury(choice: annotator_settings.JuryAnnotator, *, make: Make, usage_file: Path | None = None) -> Jury:
    gold = gold_pairs(choice.gold) if choice.gold else ()
    return Jury(judges_of(choice, make, usage_file), choice.agreement, gold, choice.gold_share)


def judges_of(choice: annotator_settings.Several, make: Make, usage_file: Path | None) -> tuple[Judge, ...]:
    judges = []
    instruction = getattr(choice, "instruction", None)
    for number, (name, one) in enumerate(annotator_settings.annotators_in(choice).items(), start=1):
        file = usage_file and usage_file.with_stem(f"{usage_file.stem}-{number}")
        if isinstance(one, annotator_kinds.Instructed) and one.instruction is None:
            one = replace(one, instruction=instruction)
        judges.append(Judge(name, make(one, file), one.about.asker is not None))
    return tuple(judges)
